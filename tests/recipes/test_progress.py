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


def test_silent_where_there_is_no_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "done\n"
    assert done.stderr == ""


def test_bars_on_a_terminal() -> None:
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
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        check=True,
    )
    os.close(terminal)
    reader.join(10)
    os.close(screen)
    text = b"".join(shown).decode()
    assert done.stdout == "done\n"
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
