"""Run in the emulated Python: what is asked on the command line as JSON, answered in one line.

    python arm_guest.py RUNNER '{"pieces": [[word, ...], ...], "beside": [word, ...],
                                 "files": [[file, inputs.npy], ...], "counted": [file, ...]}'

All in one process, because importing a runtime takes longest. What counts and answers are the
runner's own parts.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

from edgepress_onboard.answering import answers  # type: ignore[import-not-found]
from edgepress_onboard.counting import VARIABLE, Counter  # type: ignore[import-not-found]
from edgepress_onboard.measure import measure  # type: ignore[import-not-found]

MARK = 0x41524D52

# mov x2, x0; mov x4, #0
_BEFORE = (0xAA0003E2, 0xD2800004)
# movz x0, #0x4d52; movk x0, #0x4152, lsl #16; movz x1, #WHO; movz x8, #141; svc #0
_MARKING = (0xD289AA40, 0xF2A82A40, 0xD2800001, 0xD28011A8, 0xD4000001)
_RETURN = 0xD65F03C0


def program(words: list[int]) -> Callable[[], object]:
    """A function that runs `words` between marks."""
    begin, end = ([w | who << 5 if i == 2 else w for i, w in enumerate(_MARKING)] for who in (1, 2))
    whole = [*_BEFORE, *begin, *words, *end, _RETURN]
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(struct.pack(f"<{len(whole)}I", *whole))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    function = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)
    memory = (ctypes.c_uint64 * 16)()
    # Aligned to 16, which pairs of words want.
    aligned = (ctypes.addressof(memory) + 15) & ~15
    held = (code, memory)
    return lambda: (function(aligned), held)


class Marked(Counter):  # type: ignore[misc]
    """A counter of calls that mark themselves."""

    def call(self, function: Callable[[], object]) -> None:
        function()
        self._calls += 1


def pieces(words: list[list[int]]) -> list[dict[str, int]]:
    programs = [program(piece) for piece in words]
    counter = Marked.from_environment()
    for run in programs:
        counter.call(run)
    return counter.counts()


def beside_others(words: list[int]) -> dict[str, int]:
    """The piece, while another thread computes and marks pieces of its own."""
    run, stop, turns = program(words), threading.Event(), 0
    mark = ctypes.CDLL(None).getpriority

    def busy() -> None:
        nonlocal turns
        while not stop.is_set():
            mark(MARK, 1)
            turns += 1
            mark(MARK, 2)

    path = Path(os.environ[VARIABLE])
    before = path.read_text()
    mark(MARK, 1)  # now the other thread's marks count for nothing
    other = threading.Thread(target=busy)
    other.start()
    while turns < 100:
        pass
    run()  # its first mark begins anew
    stop.set()
    other.join()
    # Lines after the first are the other thread's, which went on when ours was written.
    found: dict[str, int] = json.loads(path.read_text().removeprefix(before).splitlines()[0])
    return found


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.argv[2])
    found: dict[str, Any] = {}
    found["pieces"] = pieces(asked.get("pieces", []))
    if "beside" in asked:
        found["beside"] = beside_others(asked["beside"])
    found["outputs"] = [
        answers({"path": path, "answers": inputs})["outputs"]
        for path, inputs in asked.get("files", [])
    ]
    found["measured"] = [measure({"path": path}) for path in asked.get("counted", [])]
    print(json.dumps(found))


main()
