"""A board or phone by adb: Android's own client and server, over USB or the network.

`adb connect` ends with 0 whether it connected or not, and says "already connected" of a device
that is long gone, so only the state that the server shows is believed.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compress.errors import DeviceError
from targets.device import Completed, Provenance
from targets.devices import remote, scripts
from targets.devices.process import run_to_end

_SERIAL = re.compile(r"[\w.\[][\w.:%\[\]-]*", re.ASCII)
_NETWORK = re.compile(r".+:\d{1,5}", re.ASCII)
_GRACE_S = 15.0
# adb itself never finds out that a device stands still: this bounds how long it may.
_SLOWEST_BYTES_PER_S = 100_000
CLIENT_S = 8.0
"""How long the client may take over what is no command on the device."""
_SETTLE_S = 5.0
_READY = "device"
_UNSETTLED = re.compile("offline|connecting|authorizing")
_REMEDIES = {
    "unauthorized": "unlock its screen and allow this computer",
    "offline": "plug it in again or switch its debugging off and on; then see: adb devices",
    "no permissions": "let this user open its USB device (udev rules); then see: adb devices",
}


@dataclass(frozen=True)
class AdbDevice:
    """A device that `adb devices` lists as `serial`, or one at HOST:PORT, connected when needed.

    `python` is the interpreter's command there (Android brings none). `folder` holds what is
    pushed.
    """

    serial: str
    python: str = "python3"
    folder: str = "/data/local/tmp/edgepress"

    def __post_init__(self) -> None:
        if not _SERIAL.fullmatch(self.serial):
            raise DeviceError(
                f"adb device {self.serial!r} is not understood; give a serial number that "
                f"`adb devices` lists, or HOST:PORT"
            )
        remote.check_folder(self.folder)

    @property
    def name(self) -> str:
        return f"adb:{self.serial}"

    @property
    def provenance(self) -> Provenance:
        """What the Android Emulator tells is emulated."""
        return "emulated" if self.serial.startswith("emulator-") else "measured"

    def describe(self) -> Mapping[str, str | int | float | None]:
        return remote.describe(self)

    def push(self, path: Path) -> str:
        """Bring a file to the device unless it is there already; its path there."""
        return remote.push(self, path)

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run a command there; when it ends, overruns or loses the link, nothing of it stays."""
        return remote.run(self, argv, timeout_s)

    def clean(self) -> int:
        """Remove what was pushed there; how many files."""
        return remote.clean(self)

    def talk(self, command: str, timeout_s: float) -> Completed:
        self._ready()
        return self._adb(timeout_s + _GRACE_S, "shell", command, stdin=subprocess.PIPE)

    def bring(self, path: Path, part: str, there: str, digest: str) -> remote.Reply:
        time_s = remote.bring_time_s(path, _SLOWEST_BYTES_PER_S)
        pushed = self._adb(time_s, "push", str(path.resolve()), part)
        reply = remote.ask(self, scripts.SETTLE, [part, there, digest])
        return reply if pushed.status == 0 else replace(reply, stderr=_error(pushed))

    def broken(self, completed: Completed, begun: bool) -> str:
        state = self._state()
        if state == _READY:
            what = "broke off without an end" if begun else "did not begin what was asked"
            return (
                f"{what} (last words: {remote.last_words(_said(completed))}); see whether its "
                f"memory ran out or adb was restarted, then ask again"
            )
        return f"went away; {self._why(state)}"

    def without(self, command: str) -> str:
        if command != self.python:
            return "install it there, or give the path of one"
        return (
            "Android brings no Python: give the path of one that adb's shell may run, with numpy "
            "and the runtime of the files"
        )

    def _ready(self) -> None:
        """DeviceError unless the server holds the device as ready, connecting it where needed."""
        state = self._state()
        said = ""
        if state != _READY and _NETWORK.fullmatch(self.serial):
            # Else the server answers "already connected" and does nothing.
            self._adb(CLIENT_S, "disconnect", self.serial, chosen=False)
            said = _said(self._adb(CLIENT_S, "connect", self.serial, chosen=False))
            limit = time.monotonic() + _SETTLE_S
            state = self._state()
            while _UNSETTLED.search(state) and time.monotonic() < limit:
                time.sleep(0.1)
                state = self._state()
        if state != _READY:
            raise DeviceError(f"{self.name} is not ready: {self._why(state, said)}")

    def _state(self) -> str:
        """What the server says of the device: "device" where it is ready."""
        shown = self._adb(CLIENT_S, "get-state")
        if shown.status == 0:
            return shown.stdout.strip()
        return _error(shown).removeprefix("device ")

    def _why(self, state: str, said: str = "") -> str:
        line = " ".join((said.strip() or state).split())[:300]
        for known, remedy in _REMEDIES.items():
            if known in state:
                return f"it is {known}; {remedy}"
        return f"{line or 'adb says nothing of it'}; see what `adb devices` lists"

    def _adb(
        self,
        timeout_s: float,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        chosen: bool = True,
    ) -> Completed:
        choice = ["-s", self.serial] if chosen else []
        try:
            # The client may start adb's server, which lives on.
            return run_to_end(["adb", *choice, *arguments], timeout_s, stdin, leave_children=True)
        except OSError as error:
            raise DeviceError(
                f"{self.name} needs the client `adb`, which cannot be started here "
                f"({error.strerror}); install Android's platform-tools"
            ) from error
        except subprocess.TimeoutExpired:
            raise DeviceError(
                f"{self.name} gave no answer to adb {arguments[0]} for {timeout_s:g} s; see "
                f"whether it is on and its cable or network sound, then run: adb reconnect"
            ) from None


def _said(completed: Completed) -> str:
    return f"{completed.stdout}\n{completed.stderr}".strip()


def _error(completed: Completed) -> str:
    """What a client that failed calls its error; all that it said where it does not say so."""
    said = _said(completed)
    # Long paths before it would push the reason out of our line.
    found = re.search(r"error: (?:failed to copy '.*' to '.*': )?(.*)", said)
    return found[1].strip() if found else said
