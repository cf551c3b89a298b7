"""Boards by ssh, against a real sshd on loopback: what works, and every way a link fails."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import DeviceError
from targets.bench import benchmark
from targets.device import Completed
from targets.devices.qemu.userland import installed
from targets.devices.ssh import SshDevice
from targets.measurement import Plan, Target
from tests.boards import Board, make_board
from tests.processes import gone, noted
from tests.reports import write_onnx
from tests.targets.devices.arm_userland import TIMEOUT_S, emulated

QUICK = Plan(runs=5, rounds=1, warmup_s=0.05, max_s=0.2)
# Writes its process id and sleeps, as does a child that ignores what is no SIGKILL.
SLEEPERS = 'trap \'\' HUP INT TERM; echo $$ > "$0"; sleep 60 & echo $! > "$0.child"; sleep 61'


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    made = make_board(tmp_path_factory.mktemp("board"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def on(board: Board, user: str = "board", **fields: str) -> SshDevice:
    python = fields.pop("python", sys.executable)
    host = f"{user}@127.0.0.1:{board.port}"
    return SshDevice(host, python=python, options=board.options(), **fields)


def refused(device: SshDevice) -> str:
    """The one line that tells why nothing runs there."""
    with pytest.raises(DeviceError) as caught:
        device.run(["true"], 10)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{device.name} ")
    return str(caught.value)


class Sleeping:
    """A command that sleeps on the board, begun in a thread over a connection of its own."""

    def __init__(self, board: Board, note: Path, timeout_s: float) -> None:
        others = set(board.connections())
        # An option of its own makes a connection of its own.
        options = (*board.options(), "-o", f"SetEnv=NOTE={note}")
        self.device = SshDevice(f"board@127.0.0.1:{board.port}", options=options)
        pool = ThreadPoolExecutor(1)
        self.result: Future[Completed] = pool.submit(
            self.device.run, ["sh", "-c", SLEEPERS, str(note)], timeout_s
        )
        self.processes = [noted(note), noted(note.with_name(note.name + ".child"))]
        (self.connection,) = set(board.connections()) - others

    def error(self, within_s: float) -> str:
        begun = time.monotonic()
        caught = self.result.exception(20)
        assert time.monotonic() - begun < within_s
        assert isinstance(caught, DeviceError)
        assert "\n" not in str(caught)
        return str(caught)


def test_a_full_bench(board: Board, tmp_path: Path) -> None:
    small = write_onnx(tmp_path / "small net's.onnx", width=4, side=16)
    large = write_onnx(tmp_path / "large.onnx", width=64, side=96)
    first, second = benchmark([small, large], [Target(on(board))], QUICK)
    assert (first.file, first.device) == (small.name, f"ssh:board@127.0.0.1:{board.port}")
    assert first.runtime == "onnxruntime"
    assert first.provenance == "measured"
    assert first.runs == QUICK.runs * QUICK.rounds
    assert 0 < first.median_ms < second.median_ms


def test_a_full_bench_on_an_emulated_arm_board(board: Board, tmp_path: Path) -> None:
    """All of the way but the hardware: what runs behind the login is Python of aarch64."""
    emulator = emulated("cortex-a76")
    userland = installed(emulator.folder)
    python = tmp_path / "python3"
    command = shlex.join(userland.command("cortex-a76", [str(userland.interpreter)]))
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    device = replace(on(board, python=str(python)), provenance="emulated")
    path = write_onnx(tmp_path / "net.onnx", width=4, side=8)
    (found,) = benchmark([path], [Target(device)], replace(QUICK, timeout_s=TIMEOUT_S))
    assert found.environment["machine"] == "aarch64"
    assert found.environment["cpu"] == "ARM implementer 0x41 part 0xd0b"  # of the Cortex-A76
    assert found.provenance == "emulated"
    assert found.runs == QUICK.runs


def test_the_board_describes_itself(board: Board) -> None:
    shown = on(board).describe()
    assert shown["cores"] == os.cpu_count()
    assert {"cpu", "governor", "memory_bytes", "python", "system"} <= set(shown)
    assert "end" not in shown


@pytest.mark.parametrize("user", ["board", "noisy", "busybox"])
def test_arguments_streams_and_statuses(board: Board, user: str) -> None:
    """Also behind a login shell that greets on both streams, and with busybox alone."""
    device = on(board, user)
    odd = "a 'b\" $c `d` \\e\n\nf;& *"
    done = device.run(["printf", "%s", odd], 10)
    assert (done.status, done.stdout, done.stderr) == (0, odd, "")
    done = device.run(["sh", "-c", "echo out; echo err >&2; cat; exit 3"], 10)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert device.run(["sh", "-c", "kill -SEGV $$"], 10).status == -11
    assert device.run(["sh", "-c", "exit 255"], 10).status == 255


@pytest.mark.parametrize("user", ["board", "noisy", "busybox"])
def test_files_are_pushed_once(board: Board, user: str, tmp_path: Path) -> None:
    device = on(board, user)
    path = tmp_path / "-o 'odd\nname\".onnx"
    path.write_bytes(os.urandom(3_000_000))
    there = Path(device.push(path))
    assert there.read_bytes() == path.read_bytes()
    assert there.suffix == ".onnx"
    before = there.stat()
    assert before.st_mode & 0o077 == 0
    assert device.push(path) == str(there)
    assert there.stat() == before
    there.write_bytes(path.read_bytes()[:-1] + b"?")  # spoilt on the board
    assert device.push(path) == str(there)
    assert there.read_bytes() == path.read_bytes()
    assert not list(there.parent.glob("*.part"))


def test_cleaning_takes_only_our_files(board: Board, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    device = on(board, folder=str(folder))
    (tmp_path / "a.onnx").write_bytes(b"a")
    device.push(tmp_path / "a.onnx")
    (folder / "of the user").write_text("kept")
    assert device.clean() == 1
    assert [path.name for path in folder.iterdir()] == ["of the user"]
    (folder / "of the user").unlink()
    device.push(tmp_path / "a.onnx")
    assert device.clean() == 1
    assert not folder.exists()
    assert device.clean() == 0


def test_a_full_disk_keeps_nothing(board: Board, tmp_path: Path) -> None:
    """The folder of this user is a file system of 256 KiB."""
    device = on(board, "small")
    (tmp_path / "small.onnx").write_bytes(os.urandom(1000))
    (tmp_path / "big.onnx").write_bytes(os.urandom(300_000))
    kept = device.push(tmp_path / "small.onnx")
    with pytest.raises(DeviceError) as caught:
        device.push(tmp_path / "big.onnx")
    assert re.search(
        r"did not take big\.onnx \(300000 bytes\) whole: .*No space left on device; \d+ bytes are "
        r"free in /.*; nothing of it was left",
        str(caught.value),
    )
    left = device.run(["ls", kept.rpartition("/")[0]], 10).stdout
    assert left.split() == [Path(kept).name]


def test_folders_that_cannot_serve(board: Board, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "a.onnx").write_bytes(b"a")
    (tmp_path / "foreign").mkdir()
    os.chown(tmp_path / "foreign", 12345, 12345)
    with pytest.raises(DeviceError, match=r"cannot keep files in .*/file: .*; choose another"):
        on(board, folder=str(tmp_path / "file")).push(tmp_path / "a.onnx")
    with pytest.raises(DeviceError, match=r"has .*/foreign of another user; choose another"):
        on(board, folder=str(tmp_path / "foreign")).push(tmp_path / "a.onnx")
    for folder in ("/", "", "..", "a\nb"):
        with pytest.raises(DeviceError, match="cannot hold what is pushed"):
            on(board, folder=folder)
    with pytest.raises(DeviceError, match="is not on this machine"):
        on(board).push(tmp_path / "nothing.onnx")


def test_a_timeout_leaves_no_process(board: Board, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DeviceError, match=r"^sh on ssh:.* ran longer than 1 s and was stopped"):
        on(board).run(["sh", "-c", SLEEPERS, str(tmp_path / "note")], 1)
    assert time.monotonic() - begun < 8
    assert gone(noted(tmp_path / "note"))
    assert gone(noted(tmp_path / "note.child"))


def test_children_end_with_a_command_that_ends(board: Board, tmp_path: Path) -> None:
    begun = time.monotonic()
    script = 'sleep 60 & echo $! > "$0"; exit 4'
    assert on(board).run(["sh", "-c", script, str(tmp_path / "note")], 30).status == 4
    assert time.monotonic() - begun < 8
    assert gone(noted(tmp_path / "note"))


def test_a_killed_link_is_told_and_leaves_no_process(board: Board, tmp_path: Path) -> None:
    sleeping = Sleeping(board, tmp_path / "note", timeout_s=60)
    os.kill(sleeping.connection, signal.SIGKILL)
    assert "lost its link" in sleeping.error(within_s=5)
    assert all(gone(process) for process in sleeping.processes)
    assert sleeping.device.run(["echo", "again"], 10).stdout == "again\n"


def test_a_frozen_link_is_told_and_leaves_no_process(board: Board, tmp_path: Path) -> None:
    """The board's sshd, itself frozen, tells the command nothing: its deadline ends it."""
    sleeping = Sleeping(board, tmp_path / "note", timeout_s=5)
    os.kill(sleeping.connection, signal.SIGSTOP)
    try:
        assert "lost its link" in sleeping.error(within_s=10)
        assert sleeping.device.run(["echo", "again"], 10).stdout == "again\n"
        assert all(gone(process, within_s=10) for process in sleeping.processes)
    finally:
        os.kill(sleeping.connection, signal.SIGKILL)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_when_we_are_ended_the_command_ends(
    board: Board, tmp_path: Path, sent: signal.Signals
) -> None:
    code = (
        "import sys; from targets.devices.ssh import SshDevice, socket_folder\n"
        "print(socket_folder(), flush=True)\n"
        "SshDevice(sys.argv[1], options=tuple(sys.argv[4:]))"
        ".run(['sh', '-c', sys.argv[2], sys.argv[3]], 60)"
    )
    note = tmp_path / "note"
    argv = [sys.executable, "-c", code, f"board@127.0.0.1:{board.port}", SLEEPERS, str(note)]
    process = subprocess.Popen([*argv, *board.options()], stdout=-1, stderr=-1)
    try:
        processes = [noted(note, 20), noted(tmp_path / "note.child")]
        process.send_signal(sent)
        said, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    # One that is killed cannot tidy up behind itself.
    shutil.rmtree(said.decode().strip(), ignore_errors=sent == signal.SIGINT)
    assert all(gone(process) for process in processes)


def test_a_push_that_is_cut_off_leaves_nothing(board: Board, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    others = set(board.connections())
    device = SshDevice(
        f"board@127.0.0.1:{board.port}",
        folder=str(folder),
        options=(*board.options(), "-o", "SetEnv=NOTE=cut"),
    )
    device.run(["true"], 10)
    (connection,) = set(board.connections()) - others
    big = tmp_path / "big.onnx"
    with big.open("wb") as file:
        file.truncate(200 << 20)

    def cut() -> None:
        while not list(folder.glob("*.part")):
            time.sleep(0.01)
        os.kill(connection, signal.SIGKILL)

    threading.Thread(target=cut, daemon=True).start()
    with pytest.raises(DeviceError, match="lost its link"):
        device.push(big)
    for _ in range(100):
        if not list(folder.iterdir()):
            break
        time.sleep(0.05)
    assert not list(folder.iterdir())


# Between ssh and sshd: takes no more than 20 kB/s of what goes up, after the login.
SLOW = """
import os, socket, sys, threading, time
board = socket.create_connection((sys.argv[1], int(sys.argv[2])))
board.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
def down():
    while data := board.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=down, daemon=True).start()
sent = 0
while data := os.read(0, 1024):
    sent += len(data)
    time.sleep(len(data) / 20_000 if sent > 10_000 else 0)
    board.sendall(data)
"""


def test_a_slow_link_is_not_taken_for_a_frozen_one(board: Board, tmp_path: Path) -> None:
    """The answers of the board to our signs of life wait behind the file for 5 s."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "net.onnx").write_bytes(os.urandom(105_000))
    proxy = f"ProxyCommand={sys.executable} {tmp_path}/slow.py %h %p"
    begun = time.monotonic()
    with_option(board, proxy).push(tmp_path / "net.onnx")
    assert time.monotonic() - begun > 5


def test_a_command_that_breaks_its_shell_off_is_not_believed(board: Board) -> None:
    with pytest.raises(
        DeviceError, match=r"broke off without an end \(status 255; last words: nothing"
    ):
        on(board).run(["sh", "-c", "echo whole; kill -9 $PPID"], 10)


def test_a_missing_command_or_python_is_named(board: Board) -> None:
    with pytest.raises(DeviceError, match=r"^ssh:\S+ has no command 'nosuch'; install it there"):
        on(board).run(["nosuch"], 10)
    with pytest.raises(DeviceError, match=r"has no command '/no/python3'; install it there, or"):
        on(board, python="/no/python3").describe()
    with pytest.raises(DeviceError, match=r"could not be described: false ended with status 1"):
        on(board, python="false").describe()


def with_option(board: Board, *options: str) -> SshDevice:
    more = [text for option in options for text in ("-o", option)]
    return SshDevice(f"board@127.0.0.1:{board.port}", options=(*more, *board.options()))


def test_host_keys_are_checked(board: Board, tmp_path: Path) -> None:
    other = (board.folder / "other_host_key.pub").read_text()
    (tmp_path / "changed").write_text(f"[127.0.0.1]:{board.port} {other}")
    line = refused(with_option(board, f"UserKnownHostsFile={tmp_path}/changed"))
    assert "shows another host key than the one on record" in line
    assert f'ssh-keygen -f "{tmp_path}/changed" -R "[127.0.0.1]:{board.port}"' in line
    line = refused(with_option(board, f"UserKnownHostsFile={tmp_path}/none"))
    assert "has a host key that is not on record here" in line
    assert not (tmp_path / "none").exists()


def test_a_refused_key_is_told(board: Board) -> None:
    options = ("-i", str(board.folder / "other_key"), "-F", "/dev/null")
    known = ("-o", f"UserKnownHostsFile={board.folder}/known_hosts", "-o", "IdentitiesOnly=yes")
    line = refused(SshDevice(f"board@127.0.0.1:{board.port}", options=(*options, *known)))
    assert "refused the login (Permission denied (publickey)); no password is ever given" in line


def test_what_cannot_be_reached_or_logged_into_is_told(board: Board) -> None:
    assert "did not begin what was asked (status 1;" in refused(on(board, "closed"))
    line = refused(SshDevice("board@127.0.0.1:1", options=board.options()))
    assert "cannot be reached (ssh: connect to host 127.0.0.1 port 1: Connection refused)" in line


def test_without_a_client_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        DeviceError, match="needs OpenSSH's client `ssh`, which cannot be started here"
    ):
        SshDevice("board@nowhere").run(["true"], 5)


@pytest.mark.parametrize("host", ["pi", "me@pi", "me@pi:2222", "me@[fe80::1%eth0]:22", "10.0.0.7"])
def test_hosts_as_ssh_has_them(host: str) -> None:
    assert SshDevice(host).name == f"ssh:{host}"


@pytest.mark.parametrize(
    "host", ["", "-oProxyCommand=x", "a@-b", "a b", "a@b:0", "a@b:70000", "a@b;c", "a@b:", "::1"]
)
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(DeviceError, match="is not understood; give user@board"):
        SshDevice(host)
