"""The local device: deadlines hold, and nothing that it started stays behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from compress.errors import DeviceError
from targets.devices.local import LocalDevice
from tests.processes import gone

# The child starts a grandchild, writes its id, and both sleep.
SLEEPERS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(float(sys.argv[2]))
"""


def test_runs_and_returns_what_was_written() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = LocalDevice().run([sys.executable, "-c", code], 20)
    assert (done.status, done.stdout.strip(), done.stderr.strip()) == (3, "out", "err")


def test_timeout_kills_children_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    begun = time.monotonic()
    with pytest.raises(DeviceError, match=r"ran longer than 2 s and was stopped") as caught:
        LocalDevice().run([sys.executable, "-c", SLEEPERS, str(note), "60"], 2)
    assert time.monotonic() - begun < 15
    assert "\n" not in str(caught.value)
    assert gone(int(note.read_text()))


def test_children_end_with_a_command_that_ends(tmp_path: Path) -> None:
    """A grandchild that holds the output open neither blocks the result nor lives on."""
    note = tmp_path / "pid"
    begun = time.monotonic()
    done = LocalDevice().run([sys.executable, "-c", SLEEPERS, str(note), "0"], 30)
    assert done.status == 0
    assert time.monotonic() - begun < 15
    assert gone(int(note.read_text()))


def test_a_signal_is_a_negative_status() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert LocalDevice().run([sys.executable, "-c", code], 20).status == -11


def test_what_cannot_start_or_be_pushed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^cannot start '/no/such/program'.*directory$"):
        LocalDevice().run(["/no/such/program"], 5)
    with pytest.raises(DeviceError, match="is not on this machine"):
        LocalDevice().push(tmp_path / "nothing.onnx")


def test_describe_names_the_machine() -> None:
    shown = LocalDevice().describe()
    assert isinstance(shown["cores"], int)
    assert {"cpu", "governor", "memory_bytes", "python", "system"} <= set(shown)
