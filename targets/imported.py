"""Does an imported net compute what its file computes? Asked of the engine that owns the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import EquivalenceError
from targets.runtimes.onnxruntime import OnnxSession

FloatArray = NDArray[np.float32]
# Float kernels sum in another order; a wrong import is off by far more.
TOLERANCE = 1e-4


def differences(candidate: Candidate, path: Path, batch: FloatArray) -> float:
    """The largest difference of the outputs over `batch`, over the file's largest magnitude.

    `batch`: float32 (N, C, H, W); of a file for a fixed number of pictures the last one fills up.
    .onnx is run by onnxruntime as it is written, .pt2 by torch. NaN where either gives NaN.
    """
    given = _outputs(path, batch)
    own = candidate.predict(batch)
    if own.shape != given.shape:
        raise EquivalenceError(
            f"{path} answers in shape {given.shape}, its import in {own.shape}; it cannot be used"
        )
    largest = float(np.abs(given).max()) or 1.0
    return float(np.abs(given.astype(np.float64) - own).max()) / largest


def assert_imported(candidate: Candidate, path: Path, batch: FloatArray) -> float:
    """As `differences`; EquivalenceError beyond what float arithmetic explains (1e-4)."""
    found = differences(candidate, path, batch)
    if not found <= TOLERANCE:  # NaN is never within
        raise EquivalenceError(
            f"the import of {path} differs from the file by {found:.3g} of the largest output, "
            f"{TOLERANCE:.3g} is allowed; open the net by its own code instead (module:function "
            f"and a checkpoint)"
        )
    return found


def _outputs(path: Path, batch: FloatArray) -> FloatArray:
    if path.suffix.lower() == ".pt2":
        from compress.importing.program_net import program_outputs

        return program_outputs(path, batch)
    from compress.importing.onnx_file import read_onnx

    file = read_onnx(path)
    session = OnnxSession(file.model.SerializeToString(), str(path), optimize=False)
    size = file.shape[0]
    missing = -len(batch) % size
    whole = np.concatenate([batch, np.repeat(batch[-1:], missing, 0)])
    return session.predict(whole)[: len(batch)]
