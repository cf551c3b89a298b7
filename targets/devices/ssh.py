"""A board by ssh: the system's OpenSSH client, with the user's own configuration and keys.

Host keys are checked as that configuration says and never left unchecked by us. One connection
(ControlMaster) serves all commands of this process; it looks after the board once a second, so a
link that froze shows within 5 s.
"""

from __future__ import annotations

import atexit
import hashlib
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO

from compress.errors import DeviceError
from targets.device import Completed, Provenance
from targets.devices import remote, scripts
from targets.devices.process import run_to_end
from targets.devices.ssh_words import why_not_connected

_CONNECT_S = 20.0
_GRACE_S = 15.0
_HOST = re.compile(
    r"(?:(?P<user>[\w.][\w.+-]*)@)?(?P<name>[\w][\w.%-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])"
    r"(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)
_SILENT_S = 3
# A link that stands still is found out otherwise: this may be slow.
_SLOWEST_BYTES_PER_S = 5_000
# A socket's path may have 104 letters on some systems, of which ours and ssh's own take 60.
_LONGEST_PLACE = 40
# Over the user's configuration: nobody is there to answer, and nothing but the command is wanted.
_OPTIONS = (
    "BatchMode=yes",
    "ClearAllForwardings=yes",
    "ConnectTimeout=8",
    "ConnectionAttempts=1",
    "ControlMaster=auto",
    "ControlPersist=60",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=INFO",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    f"ServerAliveCountMax={_SILENT_S}",
    "ServerAliveInterval=1",
)
_CONNECTING: dict[Path, threading.Lock] = {}


@dataclass(frozen=True)
class SshDevice:
    """A board that `ssh HOST` logs into: user@board, user@board:port, or an alias.

    `python` is the interpreter's command there. `folder` holds what is pushed; from the home
    folder unless absolute. `options` are given to ssh first ("-F", "FILE"; "-i", "KEY"; ...).
    """

    host: str
    python: str = "python3"
    folder: str = ".cache/edgepress"
    options: tuple[str, ...] = ()
    provenance: Provenance = "measured"

    def __post_init__(self) -> None:
        found = _HOST.fullmatch(self.host)
        if found is None or not 0 < int(found["port"] or 22) < 65536:
            raise DeviceError(
                f"ssh host {self.host!r} is not understood; give user@board, user@board:port, "
                f"user@[IPv6]:port or an alias of your ssh configuration"
            )
        remote.check_folder(self.folder)

    @property
    def name(self) -> str:
        return f"ssh:{self.host}"

    def describe(self) -> Mapping[str, str | int | float | None]:
        return remote.describe(self)

    def push(self, path: Path) -> str:
        """Bring a file to the board unless it is there already; its path there."""
        return remote.push(self, path)

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run a command there; when it ends, overruns or loses the link, nothing of it stays.

        Where a frozen link does not come back, the board itself ends it after `timeout_s`.
        """
        return remote.run(self, argv, timeout_s)

    def clean(self) -> int:
        """Remove what was pushed there; how many files."""
        return remote.clean(self)

    def talk(self, command: str, timeout_s: float) -> Completed:
        return self._talk(subprocess.PIPE, command, timeout_s)

    def bring(self, path: Path, part: str, there: str, digest: str) -> remote.Reply:
        with path.open("rb") as file:
            arguments = [part, there, digest]
            time_s, talk = (
                remote.bring_time_s(path, _SLOWEST_BYTES_PER_S),
                partial(self._talk, file),
            )
            return remote.ask(self, scripts.RECEIVE, arguments, time_s, talk)

    def without(self, command: str) -> str:
        del command
        return "install it there, or give the path of one"

    def broken(self, completed: Completed, begun: bool) -> str:
        said = remote.last_words(completed.stderr)
        # ssh gives 255 for its own failures and for a shell that a signal ended; its connection is
        # another process, which takes its socket away when it ends.
        if completed.status == 255 and not self._socket.exists():
            return (
                f"lost its link: it closed, or was silent for {_SILENT_S} s (last words: {said}); "
                f"what ran there is being ended; see to its network and power, then ask again"
            )
        if begun:
            return (
                f"broke off without an end (status {completed.status}; last words: {said}); see "
                f"whether its memory ran out or it was shut down, then ask again"
            )
        return (
            f"did not begin what was asked (status {completed.status}; last words: {said}); it "
            f"must give a POSIX shell at login: try ssh {self.host} true"
        )

    def _talk(self, stdin: int | IO[bytes], command: str, timeout_s: float) -> Completed:
        self._connect()
        try:
            return self._ssh(command, timeout_s + _GRACE_S, stdin)
        except subprocess.TimeoutExpired:
            raise DeviceError(
                f"{self.name} answered nothing for {timeout_s + _GRACE_S:g} s although its link "
                f"stands; see whether the board is overloaded"
            ) from None

    def _connect(self) -> None:
        """Log in once, apart from any command, so that what refuses is told for what it is."""
        with _CONNECTING.setdefault(self._socket, threading.Lock()):
            if self._socket.exists():
                return
            try:
                completed = self._ssh("true", _CONNECT_S, subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                raise DeviceError(
                    f"{self.name} began to answer but let nobody in for {_CONNECT_S:g} s; "
                    f"see whether the board is overloaded: ssh {self.host}"
                ) from None
        if completed.status == 255:
            raise DeviceError(f"{self.name} {why_not_connected(self.host, completed.stderr)}")

    def _ssh(self, command: str, timeout_s: float, stdin: int | IO[bytes]) -> Completed:
        found = _HOST.fullmatch(self.host)
        assert found is not None
        user = f"{found['user']}@" if found["user"] else ""
        settings = [*_OPTIONS, f"ControlPath={self._socket}"]
        port = ["-p", found["port"]] if found["port"] else []
        argv = ["ssh", *self.options, *port, *(text for s in settings for text in ("-o", s))]
        try:
            # The first one leaves the connection behind, for those that come after it.
            return run_to_end(
                [*argv, "--", user + found["name"].strip("[]"), command],
                timeout_s,
                stdin,
                leave_children=True,
            )
        except OSError as error:
            raise DeviceError(
                f"{self.name} needs OpenSSH's client `ssh`, which cannot be started here "
                f"({error.strerror}); install it"
            ) from error

    @property
    def _socket(self) -> Path:
        key = "\0".join([self.host, *self.options])
        return socket_folder() / hashlib.sha256(key.encode()).hexdigest()[:16]


@cache
def socket_folder() -> Path:
    """The folder of this process's connections, with a short name.

    They are closed when the process ends; one that is killed leaves them to end after a minute.
    """
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= _LONGEST_PLACE else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="edgepress-ssh-", dir=place))
    atexit.register(_close, folder)
    return folder


def _close(folder: Path) -> None:
    for socket in folder.iterdir():
        with suppress(OSError, subprocess.TimeoutExpired):
            argv = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"]
            run_to_end(argv, 5.0, leave_children=True)
    shutil.rmtree(folder, ignore_errors=True)
