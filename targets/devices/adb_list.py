"""What hangs at this machine by adb."""

from __future__ import annotations

import subprocess

from compress.errors import DeviceError
from targets.devices.process import run_to_end

_CLIENT_S = 15.0


def attached() -> list[tuple[str, str]]:
    """(serial, state) of each device that `adb devices` lists; "device" is one that is ready.

    DeviceError where there is no client, or no answer.
    """
    try:
        shown = run_to_end(["adb", "devices"], _CLIENT_S, leave_children=True)
    except OSError as error:
        raise DeviceError(
            f"the client `adb` cannot be started ({error.strerror}); install Android's "
            f"platform-tools"
        ) from error
    except subprocess.TimeoutExpired:
        raise DeviceError("`adb devices` gave no answer; run: adb kill-server") from None
    rows = [line.split("\t", 1) for line in shown.stdout.splitlines()]
    return [(row[0], row[1].strip()) for row in rows if len(row) == 2]
