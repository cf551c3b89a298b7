"""Freed memory is used again instead of being mapped and zeroed anew."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from recipes.toolbox.allocator import keep_freed_memory

# 10 blocks, one after the other, of 12,288 pages each: glibc maps blocks over 32 MiB always anew.
_PROGRAM = """
import resource, sys
from recipes.toolbox.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(b"x") * (48 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc on this machine")
def test_a_block_is_mapped_once() -> None:
    assert faults("keep") < faults("as it is") / 4


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_freed_memory() is False
