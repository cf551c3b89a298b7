"""Does a file compute what its candidate computes? Measured on pictures, and if not: where not.

Float files are compared with the candidate's network, integer files with `simulate`, which
defines the integers. Exactness is not to be had: float kernels sum in another order, and integer
kernels requantize by a float32 or fixed-point multiplier where `simulate` uses float64, so that a
sum next to the middle of two steps rounds the other way, one in 10,000 or fewer at each layer.
But each such step moves sums behind it, and after 20 layers 3 % of the outputs are a step off,
after 56 some are five. So an integer file is judged twice: each operator alone, on the file's own
inputs (`local_check`), where nothing adds up; and its outputs, which must lie within a step, or
part from the simulation by no more than two right computations can: after many layers (MobileNetV2)
their roundings have become independent, and then they part from each other by the square root of
two times what the grids make each of them part from float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import EquivalenceError
from targets.artifact import Artifact, Runtime
from targets.local_check import first_parting, local_errors

FloatArray = NDArray[np.float32]
# Pictures that the search for the layer looks at: those whose outputs differ most.
_LOOKED_AT = 4


@dataclass(frozen=True)
class Equivalence:
    """What a file's outputs differ by from its candidate's.

    max_error: largest absolute difference. relative_error: that over the candidate's largest
    magnitude. sqnr_db: 10 log10(signal power / power of the difference), infinite where equal.
    top1_agreement: fraction of pictures with the same first class. noise_ratio: root mean square
    of the difference over that which the activation grids make in the candidate (None for float
    files, and where every output lies within one step of its grid).
    """

    max_error: float
    relative_error: float
    sqnr_db: float
    top1_agreement: float
    samples: int
    noise_ratio: float | None = None


@dataclass(frozen=True)
class Tolerance:
    """What may differ: relative_error in float files, noise_ratio in integer files."""

    relative_error: float = 1e-4
    noise_ratio: float = 2**0.5


def compare(
    candidate: Candidate, artifact: Artifact, runtime: Runtime, pictures: FloatArray
) -> Equivalence:
    """Run `pictures`, float32 (N, C, H, W), through both."""
    session = runtime.load(artifact.path)
    return _difference(candidate, pictures, candidate.predict(pictures), session.predict(pictures))


def assert_equivalent(
    candidate: Candidate,
    artifact: Artifact,
    runtime: Runtime,
    pictures: FloatArray,
    tolerance: Tolerance | None = None,
) -> Equivalence:
    """As `compare`; EquivalenceError, naming the first layer that parts, beyond `tolerance`."""
    session = runtime.load(artifact.path)
    expected, given = candidate.predict(pictures), session.predict(pictures)
    found = _difference(candidate, pictures, expected, given)
    complaint = _complaint(candidate, found, tolerance or Tolerance())
    if not complaint and not candidate.activations:
        return found
    difference = np.abs(given - expected).reshape(len(expected), -1).max(1)
    worst = np.argsort(-np.nan_to_num(difference, nan=np.inf), kind="stable")
    few = pictures[worst[: _LOOKED_AT if candidate.network.graph.dynamic_batch else 1]]
    locals_ = local_errors(candidate, session.tensors(few), few)
    parting = first_parting(candidate, locals_)
    if parting is None and not complaint:
        return found
    if parting is None:
        right = (local for local in locals_.values() if local.right)
        most = max(right, key=lambda local: local.error)
        place = f"at no single layer: what is allowed adds up, most of it at {most}"
    else:
        place = f"at {parting}"
    raise EquivalenceError(
        f"{artifact.path.name} parts from its candidate {place}; over {found.samples} pictures "
        f"{complaint or 'its outputs are within tolerance'}"
    )


def _difference(
    candidate: Candidate, pictures: FloatArray, expected: FloatArray, given: FloatArray
) -> Equivalence:
    if expected.shape != given.shape:
        raise EquivalenceError(
            f"the file gives outputs of shape {given.shape}, its candidate {expected.shape}; "
            f"compare with the candidate that it was exported from"
        )
    if not expected.size:
        raise EquivalenceError("no pictures were given to compare on; give at least one")
    difference = expected.astype(np.float64) - given
    power, noise = float(np.mean(expected.astype(np.float64) ** 2)), float(np.mean(difference**2))
    largest = float(np.abs(difference).max())
    classes = expected.reshape(len(expected), -1).argmax(1)
    same = classes == given.reshape(len(given), -1).argmax(1)
    return Equivalence(
        max_error=largest,
        relative_error=largest / (float(np.abs(expected).max()) or 1.0),
        sqnr_db=float(10 * np.log10(power / noise)) if noise and power else np.inf,
        top1_agreement=float(same.mean()),
        samples=len(expected),
        noise_ratio=_noise_ratio(candidate, pictures, expected, difference),
    )


def _noise_ratio(
    candidate: Candidate,
    pictures: FloatArray,
    expected: FloatArray,
    difference: NDArray[np.float64],
) -> float | None:
    """The file's noise over the grids' own; None where it need not be asked."""
    grid = candidate.activations.get(candidate.network.graph.outputs[0])
    step = 0.0 if grid is None else 1.01 * grid.scale
    if not candidate.activations or float(np.abs(difference).max()) <= step:
        return None
    own = float(np.mean((expected.astype(np.float64) - candidate.network.predict(pictures)) ** 2))
    return float(np.sqrt(np.mean(difference**2) / own)) if own else np.inf


def _complaint(candidate: Candidate, found: Equivalence, allowed: Tolerance) -> str:
    """What is beyond tolerance, in words; '' where nothing is. NaN is never within."""
    if not candidate.activations:
        if found.relative_error <= allowed.relative_error:
            return ""
        return (
            f"its outputs differ by {found.relative_error:.3g} of the largest, "
            f"{allowed.relative_error:.3g} is allowed"
        )
    if found.noise_ratio is None or found.noise_ratio <= allowed.noise_ratio:
        return ""
    return (
        f"its outputs differ by {found.noise_ratio:.3g} times the noise of the grids, "
        f"{allowed.noise_ratio:.3g} is allowed"
    )
