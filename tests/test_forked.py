"""A forked process is one of its own: what it says, how it ends, the order of its sets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.forked import HASH_SEED, Forked

ASKED = "the order of a set"


def speak(arguments: list[str]) -> int:
    print(hash(ASKED), os.environ["SPOKEN"], Path.cwd(), tempfile.gettempdir())
    print(*arguments, file=sys.stderr)
    return 3


def wait(_: list[str]) -> None:
    time.sleep(60)


def fail(_: list[str]) -> None:
    raise KeyError("forty")


def test_what_it_says_and_how_it_ends(tmp_path: Path) -> None:
    process = Forked(speak, "a", 1, cwd=tmp_path, SPOKEN="word", TMPDIR=str(tmp_path))
    out, err = process.communicate(timeout=60)
    assert process.returncode == process.poll() == 3
    assert out.split()[1:] == ["word", str(tmp_path), str(tmp_path)]
    assert err == "a 1\n"
    assert "SPOKEN" not in os.environ
    assert Path.cwd() != tmp_path


def test_its_sets_have_another_order() -> None:
    script = f"print(hash({ASKED!r}))"
    seeded = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
    wanted = subprocess.check_output([sys.executable, "-c", script], env=seeded, text=True)
    out, _ = Forked(speak, SPOKEN="").communicate(timeout=60)
    assert out.split()[0] == wanted.strip() != str(hash(ASKED))


def test_an_error_and_a_signal() -> None:
    failed = Forked(fail)
    assert "KeyError: 'forty'" in failed.communicate(timeout=60)[1]
    assert failed.returncode == 1
    waiting = Forked(wait)
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGKILL)
    waiting.communicate(timeout=60)
    assert waiting.returncode == -signal.SIGKILL
    with pytest.raises(TimeoutError):
        Forked(wait).communicate(timeout=0.01)
