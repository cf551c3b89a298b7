"""What boards are told to do, by the shells that boards have, on this machine without a link."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import DeviceError
from targets.device import Completed
from targets.devices import remote, scripts
from targets.devices.process import run_to_end
from tests.boards import require, shell_of
from tests.processes import gone, noted


@dataclass(frozen=True)
class ShellLink:
    """A board that is this machine: its login shell is `shell`, with what is in `path`."""

    shell: str
    path: str
    folder: str
    name: str = "shell"
    environment: dict[str, str] = field(default_factory=dict)

    def talk(
        self, command: str, timeout_s: float, stdin: int | IO[bytes] = subprocess.PIPE
    ) -> Completed:
        settings = [f"PATH={self.path}", *(f"{k}={v}" for k, v in self.environment.items())]
        argv = [str(shutil.which("env")), "-i", *settings, self.shell, "-c", command]
        return run_to_end(argv, timeout_s + 10, stdin)

    def bring(self, path: Path, part: str, there: str, digest: str) -> remote.Reply:
        with path.open("rb") as file:
            talk = partial(self.talk, stdin=file)
            return remote.ask(self, scripts.RECEIVE, [part, there, digest], 30, talk)

    def broken(self, completed: Completed, begun: bool) -> str:
        return f"broke off: {begun} {completed.status} {completed.stderr}"

    def without(self, command: str) -> str:
        return f"no {command}"


@pytest.fixture(params=["sh", "bash", "busybox", "mksh with toybox"])
def link(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShellLink:
    folder = tmp_path_factory.mktemp("shell")
    shell, _, box = str(request.param).partition(" with ")
    there = str(folder / "home" / "there")
    if shell in ("sh", "bash"):
        found = shutil.which(shell)
        if found is None:
            pytest.skip(f"{shell} was not found; install it")
        return ShellLink(found, os.environ["PATH"], there)
    require()
    applets = shell_of(folder / "applets", box or shell, shell)
    return ShellLink(str(applets / "sh"), str(applets), there)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def test_arguments_and_output_arrive_letter_by_letter(link: ShellLink) -> None:
    @settings(max_examples=8)
    @given(st.lists(TEXT, min_size=1, max_size=4))
    def check(words: list[str]) -> None:
        done = remote.run(link, ["printf", r"%s\n", *words], 10)
        assert done == Completed(0, "".join(f"{word}\n" for word in words), "")

    check()


def test_statuses(link: ShellLink) -> None:
    for status in (0, 1, 124, 126, 127, 255):
        assert remote.run(link, ["sh", "-c", f"exit {status}"], 10).status == status
    assert remote.run(link, ["sh", "-c", "kill -KILL $$"], 10).status == -9


def test_names_in_the_environment_do_no_harm(link: ShellLink) -> None:
    """Ours in the script are short: `s`, `p`, `w`, `l`, ..., which a profile may have set."""
    harm = dict.fromkeys("spwlehxdnf", str(os.getpid()))
    spoilt = ShellLink(link.shell, link.path, link.folder, environment=harm)
    assert remote.run(spoilt, ["sh", "-c", "echo $s $d"], 10).status == 0
    with pytest.raises(DeviceError, match="ran longer than 1 s"):
        remote.run(spoilt, ["sleep", "20"], 1)


def test_the_end_of_stdin_ends_the_command(link: ShellLink, tmp_path: Path) -> None:
    """So a lost link shows to the board; also while the command ignores every other signal."""
    note = tmp_path / "note"
    sleep = 'trap "" HUP INT TERM; echo $$ >"$0"; sleep 30; sleep 30'
    arguments = ["60", "sh", "-c", sleep, str(note)]
    command = scripts.framed(scripts.RUN, arguments, "mark")
    argv = [link.shell, "-c", command]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-1, env={"PATH": link.path}) as process:
        running = noted(note)
        assert process.stdin is not None
        process.stdin.close()
        assert gone(running)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read().endswith(b"\nmark 137\n")


@pytest.mark.parametrize("sent", [signal.SIGHUP, signal.SIGTERM])
def test_a_shell_that_is_hung_up_ends_the_command(
    link: ShellLink, tmp_path: Path, sent: signal.Signals
) -> None:
    note = tmp_path / "note"
    arguments = ["60", "sh", "-c", 'echo $$ >"$0"; sleep 30; sleep 30', str(note)]
    argv = [link.shell, "-c", scripts.framed(scripts.RUN, arguments, "mark")]
    # A shell cannot trap what was ignored when it began, as under nohup.
    before = signal.signal(sent, signal.SIG_DFL)
    try:
        process = subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-1, env={"PATH": link.path})
    finally:
        signal.signal(sent, before)
    with process:
        running = noted(note)
        process.send_signal(sent)
        assert gone(running)
        assert process.wait(10) != 0


def test_the_deadline_ends_even_what_lost_its_shell(link: ShellLink, tmp_path: Path) -> None:
    note = tmp_path / "note"
    # Not at once: the shell must have begun the watch over the deadline.
    waits = 'echo $$ >"$0"; sleep 1; kill -9 $PPID; sleep 30; sleep 30'
    arguments = ["2", "sh", "-c", waits, str(note)]
    argv = [link.shell, "-c", scripts.framed(scripts.RUN, arguments, "mark")]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-1, env={"PATH": link.path}) as process:
        begun = time.monotonic()
        assert gone(noted(note))
        assert time.monotonic() - begun < 5
        assert process.wait(10) == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_arrive_whole_or_not_at_all(link: ShellLink, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(os.urandom(100_000))
    there = Path(remote.push(link, path))
    assert there.parent == Path(link.folder)
    assert there.read_bytes() == path.read_bytes()
    wrong = link.bring(path, f"{there}.part", f"{there}2", "0" * 64)
    assert wrong.status == "1"
    assert names(there.parent) == [there.name]
    # What a push left behind when the power went, and a file that is not ours.
    for name in (f"{there.name}.0123.part", "download.part"):
        (there.parent / name).write_bytes(b"half")
        os.utime(there.parent / name, (0, 0))
    remote.push(link, path)
    assert names(there.parent) == sorted([there.name, "download.part"])
    assert remote.clean(link) == 1
    assert names(there.parent) == ["download.part"]


@pytest.mark.parametrize("missing", ["setsid", "sha256sum"])
def test_what_the_board_lacks_is_told(tmp_path: Path, missing: str) -> None:
    require()
    applets = shell_of(tmp_path / "applets", "busybox", "mksh")
    (applets / missing).unlink()
    link = ShellLink(str(applets / "sh"), str(applets), str(tmp_path / "there"))
    (tmp_path / "a.onnx").write_bytes(b"a")
    told = rf"^shell has no `{missing}`; install "
    if missing == "setsid":
        with pytest.raises(DeviceError, match=told):
            remote.run(link, ["true"], 5)
    else:
        with pytest.raises(DeviceError, match=told):
            remote.push(link, tmp_path / "a.onnx")


def test_what_cannot_be_an_argument_is_told(tmp_path: Path) -> None:
    link = ShellLink("sh", os.environ["PATH"], str(tmp_path))
    with pytest.raises(DeviceError, match="cannot hold a NUL letter"):
        remote.run(link, ["echo", "a\0b"], 5)
