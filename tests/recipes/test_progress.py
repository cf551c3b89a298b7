"""Bars on a terminal, and nothing anywhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import threading
from contextlib import suppress

from tests.recipes.commands import ROOT

SCRIPT = """
import os, time
from recipes.toolbox import progress
progress._DELAY_S = 0.0
progress._TICK_S = 0.02
for _ in progress.bar(range(3), "scoring"):
    time.sleep(0.15)
with progress.counted_bar("training") as update:
    for i in range(3):
        update(4 + i, 8, f"epoch {i}")
        time.sleep(0.15)
with progress.busy("writing net.tflite"):
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    time.sleep(0.3)
    os.dup2(kept, 2)
with progress.busy("under the bar"):
    with progress.counted_bar("inner") as update:
        update(0, 1, "now")
        time.sleep(0.2)
print("done")
"""
LINES = """
import time
from recipes.toolbox import progress
progress._TICK_S = 0.02
with progress.busy("first work") as now:
    time.sleep(0.2)
    progress.say("first result")
    now("second work")
    time.sleep(0.2)
    progress.say("second result")
    now("")
    time.sleep(0.1)
print("end")
"""


def test_silent_where_there_is_no_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "done\n"
    assert done.stderr == ""


def on_a_terminal(script: str, *, both: bool) -> tuple[str, str]:
    """(what the terminal got, standard output where it is not `both` that go to the terminal)."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other end was closed
            while piece := os.read(screen, 4096):
                shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=terminal if both else subprocess.PIPE,
        stderr=terminal,
        text=True,
        check=True,
    )
    os.close(terminal)
    reader.join(10)
    os.close(screen)
    return b"".join(shown).decode(), done.stdout


def test_a_line_is_printed_where_the_progress_stood() -> None:
    text, _ = on_a_terminal(LINES, both=True)
    for words in ("first work 00:00", "second work 00:00"):
        assert words in text, text
    # Each result begins on a line that was cleared, and work goes on below it.
    assert "\r\x1b[Kfirst result\r\n" in text
    assert "\r\x1b[Ksecond result\r\n" in text
    before, after = text.split("first result")
    assert "second work" not in before
    assert "first work" not in after
    assert text.endswith("\r\x1b[Kend\r\n")


def test_lines_elsewhere_stay_plain() -> None:
    text, out = on_a_terminal(LINES, both=False)
    assert out == "first result\nsecond result\nend\n"
    assert "result" not in text


def test_bars_on_a_terminal() -> None:
    text, out = on_a_terminal(SCRIPT, both=False)
    assert out == "done\n"
    for words in (
        "scoring",
        "3 [",
        "training",
        "epoch 2",
        "6/8",
        "writing net.tflite 00:00",
        "inner",
    ):
        assert words in text, text
    assert "under the bar" not in text
    assert "\n" not in text
    assert text.endswith("\r")
