"""Every kind of .onnx file asked by another program: a browser's runtime, an old onnxruntime."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.onnx_kinds import KINDS


def answers(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """What `command` says to each kind, all in one process; `folder` is for the pictures.

    On its stdin: [{"model": file, "pictures": file of raw float32, "shape": of one picture}, ...].
    On its stdout, the last line: as many [outputs of each picture]; they come back as float32, and
    whatever else it says of a file as it is.
    """
    jobs: list[dict[str, object]] = []
    for number, kind in enumerate(KINDS.values()):
        batch, inputs = kind.pictures(), folder / f"{number}.f32"
        inputs.write_bytes(batch.tobytes())
        model = str(kind.artifact().path)
        jobs.append({"model": model, "pictures": str(inputs), "shape": batch.shape[1:]})
    done = subprocess.run(
        list(command),
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: _array(rows) for name, rows in zip(KINDS, found, strict=True)}


def _array(rows: Any) -> NDArray[np.float32] | Any:
    return np.array(rows, np.float32) if isinstance(rows, list) else rows
