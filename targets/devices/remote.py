"""Boards that are reached by a shell: content-addressed files, commands that leave nothing behind.

Shared by ssh and adb, which differ in how a command line gets there (`Link`).
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol

from compress.errors import DeviceError
from targets.answer_line import answer_line
from targets.artifact import file_sha256
from targets.device import Completed, Device
from targets.devices import scripts
from targets.runner_file import runner_file

ANSWER_S = 30.0
"""How long a board may take for what is no measurement: looking, removing, describing."""
_DEFECTS = {
    "setsid": "has no `setsid`; install util-linux, busybox or toybox there",
    "sha256sum": "has no `sha256sum`; install coreutils, busybox or toybox there",
    "foreign": "has {folder} of another user; choose another folder",
    "readonly": "does not let files be written in {folder}; choose another folder",
}


class Link(Protocol):
    """A way to a board's shell."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> str: ...

    def talk(self, command: str, timeout_s: float) -> Completed:
        """Give the shell there a command line; stdin stays open and empty.

        Raises DeviceError where nothing can be begun there, or no end comes in time. A link that
        breaks later shows in what is missing at the end of stdout.
        """
        ...

    def bring(self, path: Path, part: str, there: str, digest: str) -> Reply:
        """Bring the bytes of `path` to the file `part` and settle them at `there`."""
        ...

    def broken(self, completed: Completed, begun: bool) -> str:
        """Why a command came back without its end: what was found; what to do."""
        ...

    def without(self, command: str) -> str:
        """What to do where there is no such command."""
        ...


@dataclass(frozen=True)
class Reply:
    """What a script answered: its status (a number, or one word on why not) and what it wrote."""

    status: str
    stdout: str
    stderr: str


def check_folder(folder: str) -> None:
    """Raises DeviceError where `folder` cannot be one of our own on a board."""
    if not re.fullmatch(r"[^\0\r\n]*[^\0\r\n/.][^\0\r\n]*", folder):
        raise DeviceError(
            f"folder {folder!r} cannot hold what is pushed; give one of its own: .cache/edgepress"
        )


def push(link: Link, path: Path) -> str:
    """Bring a file to the board unless it is there already; its absolute path there.

    It lies in the link's folder under its SHA-256, which is taken anew there each time; under
    that name it is whole or not at all.
    """
    if not path.is_file():
        raise DeviceError(f"{path} is not on this machine; give an existing file")
    digest = file_sha256(path)
    suffix = path.suffix if re.fullmatch(r"\.\w{1,16}", path.suffix, re.ASCII) else ""
    name = digest + suffix
    looked = ask(link, scripts.LOOK, [link.folder, name, digest])
    lines = looked.stdout.splitlines()
    if looked.status != "0" or len(lines) < 2 or not lines[-2].startswith("/"):
        _fail(link, f"cannot keep files in {link.folder}", looked)
    folder, there = lines[-2], f"{lines[-2]}/{name}"
    if lines[-1] == "have":
        return there
    size = path.stat().st_size
    reply = link.bring(path, f"{there}.{secrets.token_hex(4)}.part", there, digest)
    if reply.status != "0":
        free = re.search(r"\s(\d+)\s+\d+%\s", reply.stdout)
        room = f"; {int(free[1]) * 1024} bytes are free in {folder}" if free else ""
        said = reply.stderr.strip() or "what arrived has another SHA-256; has the file changed?"
        raise DeviceError(
            f"{link.name} did not take {path.name} ({size} bytes) whole: {last_words(said)}{room}; "
            f"nothing of it was left there; free space or choose another folder"
        )
    return there


def bring_time_s(path: Path, slowest_bytes_per_s: float) -> float:
    """How long the bytes of `path` may be on their way."""
    return ANSWER_S + path.stat().st_size / slowest_bytes_per_s


def run(link: Link, argv: Sequence[str], timeout_s: float) -> Completed:
    """Run a command there to its end; when it ends or overruns, all that it started is killed."""
    assert argv
    limit = max(1, math.ceil(timeout_s))
    reply = ask(link, scripts.RUN, [str(limit), *argv], timeout_s)
    if reply.status == "overran":
        raise DeviceError(
            f"{argv[0]} on {link.name} ran longer than {timeout_s:g} s and was stopped; "
            f"ask for fewer runs or allow more time"
        )
    if reply.status == "absent":
        raise DeviceError(f"{link.name} has no command {argv[0]!r}; {link.without(argv[0])}")
    if not reply.status.isdigit():
        _fail(link, f"could not run {argv[0]}", reply)
    # A shell gives 128 + N for a command that signal N ended.
    status = int(reply.status)
    return Completed(128 - status if 128 < status <= 192 else status, reply.stdout, reply.stderr)


def clean(link: Link) -> int:
    """Remove what `push` left on the board, and nothing else; how many files there were."""
    reply = ask(link, scripts.CLEAN, [link.folder])
    if reply.status != "0":
        _fail(link, f"could not empty {link.folder}", reply)
    return int(reply.stdout.split()[-1])


def describe(device: Device) -> Mapping[str, str | int | float | None]:
    """The board as the runner there describes it."""
    command = [device.python, device.push(runner_file()), json.dumps({"describe": True})]
    completed = device.run(command, ANSWER_S)
    fields = answer_line(completed)
    if fields is None or "error" in fields:
        last = fields["error"] if fields else last_words(completed.stderr)
        raise DeviceError(
            f"{device.name} could not be described: {device.python} ended with status "
            f"{completed.status}; its last words: {last}; Python 3 with numpy is needed there"
        )
    return fields


def ask(
    link: Link,
    script: str,
    arguments: Sequence[str],
    timeout_s: float = ANSWER_S,
    talk: Callable[[str, float], Completed] | None = None,
) -> Reply:
    """Run one of the scripts on the board; `talk` where it is not the link's own.

    Raises DeviceError where its end did not come back.
    """
    if any("\0" in argument for argument in arguments):
        raise DeviceError(f"{link.name}: a command's arguments cannot hold a NUL letter")
    mark = f"edgepress{secrets.token_hex(8)}"
    completed = (talk or link.talk)(scripts.framed(script, arguments, mark), timeout_s)
    stdout, stderr = completed.stdout, completed.stderr
    # A terminal between (old adb) ends lines with \r\n and joins both streams into one.
    if f"{mark}\r\n" in stdout:
        stdout = stdout.replace("\r\n", "\n")
    end = re.search(rf"\n{mark} (\w+)\n", stdout)
    if end is None:
        begun = f"{mark}\n" in stdout
        alone = replace(completed, stderr=stderr.rpartition(f"{mark}\n")[2])
        raise DeviceError(f"{link.name} {link.broken(alone, begun)}")
    said = stdout[: end.start()].rpartition(f"{mark}\n")[2]
    return Reply(end[1], said, stderr.rpartition(f"{mark}\n")[2])


def last_words(said: str) -> str:
    """The last line of what a program said, 300 letters of it."""
    return (said.strip().splitlines() or ["nothing was said"])[-1].strip()[:300]


def _fail(link: Link, what: str, reply: Reply) -> NoReturn:
    """A script's own word on why it did nothing, or the last words of what it called."""
    known = _DEFECTS.get(reply.status)
    if known is not None:
        raise DeviceError(f"{link.name} {known.format(folder=link.folder)}")
    raise DeviceError(f"{link.name} {what}: {last_words(reply.stderr)}; choose another folder")
