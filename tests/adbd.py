"""A stand-in for Android's adbd, for no adbd is packaged: its side of the adb protocol over TCP.

It is not Android: commands run on this machine, by the mksh and toybox that `make boards` brought.
What it shows is that our use of the real adb client is right, not that a phone is.
Protocol: packages/modules/adb/protocol.txt, SYNC.TXT, shell_protocol.h of the Android sources.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

VERSION = 0x01000001
MOST = 64 * 1024
TOKEN_BYTES = 20
# Of the shell protocol, version 2.
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


@dataclass
class Stream:
    """One service that the host opened. Each message that we send waits for its OKAY."""

    link: Link
    ours: int
    theirs: int
    incoming: queue.Queue[bytes] = field(default_factory=queue.Queue)
    okay: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    closed: bool = False
    rest: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, data: bytes) -> None:
        with self.lock:
            for begin in range(0, len(data), MOST):
                if self.closed:
                    return
                self.link.send(b"WRTE", self.ours, self.theirs, data[begin : begin + MOST])
                self.okay.acquire()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; EOFError once the host has closed the stream."""
        while len(self.rest) < size:
            data = self.incoming.get()
            if not data:
                raise EOFError
            self.rest += data
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def read_some(self) -> bytes:
        taken, self.rest = self.rest, b""
        return taken or self.incoming.get()

    def close(self) -> None:
        self.closed = True
        self.incoming.put(b"")
        self.okay.release()


@dataclass
class Adbd:
    """Listens on `port`. behaviour: how it receives a host; old: before shell protocol 2."""

    port: int
    path: str
    behaviour: Literal["ready", "unauthorized", "offline"] = "ready"
    old: bool = False
    room_bytes: int | None = None
    cut_after_bytes: int | None = None
    received_bytes: int = 0
    links: list[Link] = field(default_factory=list)
    listener: socket.socket | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Adbd]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def stop(self) -> None:
        if self.listener is not None:
            # Wakes the thread that accepts; closing alone would not.
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        self.drop()

    def drop(self) -> None:
        """Cut every connection off, as a pulled cable does."""
        for link in self.links:
            link.cut()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                link = Link(self, connection)
                self.links.append(link)
                threading.Thread(target=link.serve, daemon=True).start()


class Link:
    """One host's connection."""

    def __init__(self, adbd: Adbd, connection: socket.socket) -> None:
        self.adbd, self.connection = adbd, connection
        self.lock = threading.Lock()
        self.streams: dict[int, Stream] = {}

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        word = int.from_bytes(command, "little")
        sums = (len(data), sum(data) & 0xFFFFFFFF, word ^ 0xFFFFFFFF)
        with self.lock, contextlib.suppress(OSError):
            self.connection.sendall(struct.pack("<6I", word, first, second, *sums) + data)

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        for stream in list(self.streams.values()):
            stream.close()

    def serve(self) -> None:
        with contextlib.suppress(EOFError, OSError), self.connection:
            while True:
                head = struct.unpack("<6I", self._exactly(24))
                command = int(head[0]).to_bytes(4, "little")
                assert head[5] == head[0] ^ 0xFFFFFFFF, head
                self._take(command, head[1], head[2], self._exactly(head[3]))
        self.cut()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _take(self, command: bytes, theirs: int, ours: int, data: bytes) -> None:
        self.adbd.received_bytes += len(data)
        if self.adbd.received_bytes > (self.adbd.cut_after_bytes or sys.maxsize):
            self.adbd.cut_after_bytes = None
            raise EOFError
        if command in (b"CNXN", b"AUTH"):
            self._greet()
        elif command == b"OPEN":
            stream = Stream(self, len(self.streams) + 1, theirs)
            self.streams[stream.ours] = stream
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=self._serve, args=[stream, service], daemon=True).start()
        elif (known := self.streams.get(ours)) is None or known.closed:
            if command == b"WRTE":
                self.send(b"CLSE", 0, theirs)
        elif command == b"WRTE":
            known.incoming.put(data)
            self.send(b"OKAY", ours, theirs)
        elif command == b"OKAY":
            known.okay.release()
        elif command == b"CLSE":
            known.close()

    def _greet(self) -> None:
        """Let the host in, ask for a key again and again, or say nothing."""
        features = "" if self.adbd.old else ";features=shell_v2,cmd,stat_v2"
        identity = f"device::ro.product.name=standin;ro.product.model=Stand_in{features}"
        if self.adbd.behaviour == "ready":
            self.send(b"CNXN", VERSION, MOST, identity.encode())
        elif self.adbd.behaviour == "unauthorized":
            self.send(b"AUTH", 1, 0, os.urandom(TOKEN_BYTES))

    def _serve(self, stream: Stream, service: str) -> None:
        name, _, argument = service.partition(":")
        kind = name.partition(",")[0]
        serve: Callable[[], None] | None = {
            "shell": lambda: self._shell(stream, argument, "v2" in name.split(",")),
            "sync": lambda: serve_files(stream),
        }.get(kind)
        if serve is None:
            self.send(b"CLSE", 0, stream.theirs)
            return
        self.send(b"OKAY", stream.ours, stream.theirs)
        with contextlib.suppress(EOFError):
            serve()
        stream.close()
        self.send(b"CLSE", stream.ours, stream.theirs)

    def _shell(self, stream: Stream, command: str, packets: bool) -> None:
        serve = with_packets if packets else on_a_terminal
        serve(stream, [f"{self.adbd.path}/sh", "-c", command], {"PATH": self.adbd.path})


def with_packets(stream: Stream, argv: list[str], environment: dict[str, str]) -> None:
    """Shell protocol 2: the streams apart, the status at the end."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None

    def feed() -> None:
        assert process.stdin
        with contextlib.suppress(EOFError, BrokenPipeError), process.stdin:
            while True:
                kind, size = struct.unpack("<BI", stream.read(5))
                data = stream.read(size)
                if kind == CLOSE_STDIN:
                    return
                if kind == STDIN:
                    process.stdin.write(data)
                    process.stdin.flush()

    def pump(file: int, kind: int) -> None:
        while data := os.read(file, 32 * 1024):
            stream.write(struct.pack("<BI", kind, len(data)) + data)

    threads = [
        threading.Thread(target=pump, args=[file.fileno(), kind], daemon=True)
        for file, kind in ((process.stdout, STDOUT), (process.stderr, STDERR))
    ]
    feeder = threading.Thread(target=feed, daemon=True)
    for thread in (*threads, feeder):
        thread.start()
    for thread in threads:
        thread.join()
    status = process.wait()
    process.stdout.close()
    process.stderr.close()
    stream.write(struct.pack("<BIB", EXIT, 1, status & 255 if status >= 0 else 128 - status))
    stream.incoming.put(b"")
    feeder.join()


def on_a_terminal(stream: Stream, argv: list[str], environment: dict[str, str]) -> None:
    """As before Android 7: one stream with \\r\\n, no status; hung up when the host goes."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)

    def feed() -> None:
        while data := stream.read_some():
            os.write(terminal, data)
        process.send_signal(signal.SIGHUP)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    with contextlib.suppress(OSError):  # a terminal that nobody holds any more gives EIO
        while data := os.read(terminal, 32 * 1024):
            stream.write(data)
    process.wait()
    stream.incoming.put(b"")
    feeder.join()
    os.close(terminal)


def serve_files(stream: Stream) -> None:
    """The sync service: look at files and receive them."""
    while True:
        request, size = struct.unpack("<4sI", stream.read(8))
        if request == b"QUIT":
            return
        name = stream.read(size).decode()
        if request == b"STAT":
            stream.write(struct.pack("<4s3I", b"STAT", *_stat(name)))
        elif request in (b"STA2", b"LST2"):
            mode, length, changed = _stat(name)
            error = 0 if mode else 2
            fields = (request, error, 0, 0, mode, 1, 0, 0, length, changed, changed, changed)
            stream.write(struct.pack("<4sIQQ4IQ3q", *fields))
        elif request == b"SEND":
            room = stream.link.adbd.room_bytes
            said = _receive(stream, Path(name.rpartition(",")[0]), room).encode()
            stream.write(struct.pack("<4sI", b"FAIL" if said else b"OKAY", len(said)) + said)
        else:
            said = b"unknown request " + request
            stream.write(struct.pack("<4sI", b"FAIL", len(said)) + said)
            return


def _stat(name: str) -> tuple[int, int, int]:
    try:
        found = Path(name).stat()
    except OSError:
        return 0, 0, 0
    return found.st_mode, found.st_size, int(found.st_mtime)


def _receive(stream: Stream, path: Path, room: int | None) -> str:
    """Write what comes to `path`; the error's words. All is read whatever becomes of it.

    room: how many bytes a full disk has left.
    """
    error = ""
    with path.open("wb") as file:
        while True:
            kind, size = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":
                return error
            data = stream.read(size)
            if room is not None and file.tell() + size > room:
                error = f"couldn't write file: {os.strerror(errno.ENOSPC)}"
            elif not error:
                file.write(data)
