"""Are a file's outputs right on another processor: there beside here, runtime for runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from targets.agreement import Agreement, compared
from targets.device_answers import answers_on, own_inputs
from targets.devices.local import LocalDevice
from targets.measurement import Target


def outputs_against_here(
    path: Path, target: Target, pictures: NDArray[np.float32], timeout_s: float = 600.0
) -> Agreement:
    """Run the file on `target`, as qemu:cortex-a76, and on this machine; pictures (N, C, H, W).

    fp32 agrees to about 1e-6 of the range. int8 is bit for bit the same where this machine has
    exact int8 products (VNNI, ARM); older x86 saturates some and is the one that is wrong.
    Raises DeviceError, MissingExtraError.
    """
    inputs = own_inputs(path, pictures)
    there = answers_on(path, target, inputs, timeout_s)
    here = answers_on(path, Target(LocalDevice(), engine=target.engine), inputs, timeout_s)
    return compared(path, target, there, here)
