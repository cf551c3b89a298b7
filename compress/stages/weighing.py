"""What the calibration pictures say an error of each layer's weight costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from compress.calibrate import checked_batches
from compress.candidate import Candidate
from compress.factoring.measure import Measure
from compress.moments import Moments, layer_moments
from compress.network import LayerInfo
from compress.task import Batch, Task

Floats = NDArray[np.float64]
Weigh = Literal["answers", "inputs", "weights"]
WEIGHINGS: tuple[Weigh, ...] = get_args(Weigh)

# Shares of the mean that are added to the diagonals, so that what few pictures show is not
# believed too much; chosen by agreement on photographs that did not calibrate.
_INPUT_DAMPING = 0.01
_OUTPUT_DAMPING = 1.0
# For the next rank of the same candidate: this takes minutes, a rank seconds.
_KEPT: WeakKeyDictionary[Candidate, tuple[object, Mapping[str, Moments]]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Seen:
    """The layers' moments by name, and how they are used."""

    weigh: Weigh
    moments: Mapping[str, Moments]

    def measure(self, layer: LayerInfo) -> Measure:
        """Of the layer's errors; around the mean of its inputs, which the bias keeps."""
        seen = self.moments.get(layer.name)
        if seen is None:
            return Measure()
        mean = seen.means[0]
        inputs = seen.inputs[0] - seen.positions * np.outer(mean, mean)
        outputs = seen.outputs[0] if self.weigh == "answers" else None
        return Measure(
            _damped(inputs, _INPUT_DAMPING),
            None if outputs is None else _damped(outputs, _OUTPUT_DAMPING),
        )

    def means(self, layer: LayerInfo) -> Floats | None:
        """(n,) the layer's mean input; None where errors are not weighed by inputs."""
        seen = self.moments.get(layer.name)
        return None if seen is None else seen.means[0]

    def errors(self, costs: Floats, total: float) -> Floats:
        """What errors that cost `costs` are worth beside other layers'; total: of an error of all.

        Expected nats where the answers weigh; else the logarithm of the share that is kept, whose
        sum X. Zhang et al. 2016 (arXiv:1505.06798, section 3.3) maximise.
        """
        if self.weigh == "answers":
            return costs / 2
        lost = np.minimum(costs / total if total > 0 else np.zeros_like(costs), 1 - 1e-12)
        return -np.log1p(-lost)


def seen_layers(
    candidate: Candidate, layers: Sequence[LayerInfo], task: Task, weigh: Weigh, asker: str
) -> Seen:
    """What task.calibration shows of each of `layers`; from the last time, where it is the same."""
    if weigh == "weights":
        return Seen(weigh, {})
    calibration, shape = task.need_calibration(asker), candidate.network.input_shape
    asked = ([layer.name for layer in layers], task.seed, task.calibration, task.fingerprint)
    if not layers:
        return Seen(weigh, {})
    known = _KEPT.get(candidate)
    if known is not None and known[0] == asked:
        return Seen(weigh, known[1])

    def pictures() -> Iterator[Batch]:
        return (batch for _, batch in checked_batches(calibration, shape, asker))

    moments = layer_moments(candidate.network, layers, pictures(), task.seed)
    _KEPT[candidate] = asked, moments
    return Seen(weigh, moments)


def _damped(matrix: Floats, share: float) -> Floats:
    level = float(np.trace(matrix)) / len(matrix)
    # What saw zeros only has no preference; any positive diagonal will do.
    return matrix + np.eye(len(matrix)) * (share * level if level > 0 else 1.0)
