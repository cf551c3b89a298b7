"""The ranges of a net's activations over calibration batches, seen one block at a time.

"minmax" keeps the true least and greatest value of each tensor; "percentile" cuts the same share
off both tails, by a histogram over that range in a second pass (Wu et al., arXiv:2004.09602,
section 5.1, as onnxruntime's percentile calibrator does); "mse" takes from the same histogram the
range of the least squared error (see clipping.least_error). Memory does not grow with the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from compress.clipping import Range, least_error, trimmed
from compress.errors import TaskError
from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.network import blocks
from compress.placement import place
from compress.task import Batch, Calibration

# Few pictures at a time: every tensor of a block may be alive at once.
BLOCK = 16
BINS = 8192


@dataclass(frozen=True)
class Calibrator:
    """Shows every floating tensor of the net for every calibration batch.

    `asker` is the stage that wants to know, for its errors; `shape` the net's input shape.
    """

    graph: Graph
    calibration: Calibration
    shape: tuple[int, ...]
    asker: str

    def minmax(self) -> dict[TensorId, Range]:
        """(least, greatest) value of each tensor; TaskError for a batch that cannot be used."""
        found: dict[TensorId, Range] = {}

        def see(number: int, tensor: TensorId, value: torch.Tensor) -> None:
            low, high = (float(v) for v in torch.aminmax(value))
            if not (np.isfinite(low) and np.isfinite(high)):  # NaN and infinity both show here
                raise TaskError(
                    f"{self.asker}: calibration batch {number} gives NaN or infinity in tensor "
                    f"'{tensor}'; check the batch's values and the net's weights"
                )
            old = found.get(tensor, (low, high))
            found[tensor] = (min(low, old[0]), max(high, old[1]))

        self._run(see)
        return found

    def percentile(self, percent: float) -> dict[TensorId, Range]:
        """As `minmax` with (100 - percent) / 2 % of the values cut off at both ends.

        Of the tensors that may carry a grid only.
        """
        cut = (100 - percent) / 200
        return self._ranges(lambda whole, counts: trimmed(whole, counts, cut))

    def mse(self) -> dict[TensorId, Range]:
        """The range, 0 included, whose grid errs least in the squared mean; as `percentile`."""
        return self._ranges(least_error)

    def _ranges(
        self, narrowed: Callable[[Range, NDArray[np.float64]], Range]
    ) -> dict[TensorId, Range]:
        """Each tensor's range, narrowed by its histogram; the net's outputs keep all of theirs.

        What is cut off there is the first class of the surest answers.
        """
        return {
            tensor: whole if tensor in self.graph.outputs else narrowed(whole, counts)
            for tensor, (whole, counts) in self._histograms().items()
        }

    def _histograms(self) -> dict[TensorId, tuple[Range, NDArray[np.float64]]]:
        """Range and, in a second pass, how many values fall in each of BINS.

        Of the tensors that may carry a grid: counting takes most of the time, and half of all
        tensors lie before an activation function.
        """
        placement = place(self.graph)
        carrying = {*placement.points, *(tensor for tie in placement.ties for tensor in tie)}
        ranges = {tensor: seen for tensor, seen in self.minmax().items() if tensor in carrying}
        counts = {tensor: np.zeros(BINS, np.float64) for tensor in ranges}

        def see(number: int, tensor: TensorId, value: torch.Tensor) -> None:
            del number
            low, high = ranges.get(tensor, (0.0, 0.0))
            if low < high:
                counts[tensor] += torch.histc(value, BINS, low, high).double().numpy()

        self._run(see)
        return {tensor: (ranges[tensor], counts[tensor]) for tensor in ranges}

    def _run(self, see: Callable[[int, TensorId, torch.Tensor], None]) -> None:
        size = BLOCK if self.graph.dynamic_batch else 1
        for number, batch in checked_batches(self.calibration, self.shape, self.asker):

            def visit(tensor: TensorId, value: torch.Tensor, n: int = number) -> torch.Tensor:
                if value.is_floating_point():
                    see(n, tensor, value)
                return value

            with torch.inference_mode():
                for block in blocks(batch, size):
                    GraphRunner(self.graph, visit).run(block)


def checked_batches(
    calibration: Calibration, shape: tuple[int, ...], asker: str
) -> Iterator[tuple[int, Batch]]:
    """Numbered from 1; one TaskError line for the first that does not fit the net's `shape`."""
    given = cast("object", calibration())
    if not isinstance(given, Iterable):
        raise TaskError(
            f"{asker}: task.calibration() gave a {type(given).__name__}; float32 arrays of shape "
            f"{_text(('N', *shape[1:]))}, anew at each call, are needed"
        )
    number = 0
    for number, batch in enumerate(cast("Iterable[object]", given), 1):
        wanted = ("N", *shape[1:])
        if not isinstance(batch, np.ndarray):
            kind = type(batch).__name__
            raise TaskError(
                f"{asker}: calibration batch {number} is a {kind}; "
                f"a float32 array of shape {_text(wanted)} is needed"
            )
        array = cast("NDArray[np.float32]", batch)
        fits = array.ndim == len(wanted) and array.shape[1:] == shape[1:] and len(array)
        if not fits or array.dtype != np.float32:
            raise TaskError(
                f"{asker}: calibration batch {number} is {array.dtype} of shape "
                f"{_text(array.shape)}; tensor '/input#0' needs float32 of {_text(wanted)}, "
                f"N >= 1"
            )
        yield number, array
    if number == 0:
        raise TaskError(
            f"{asker}: task.calibration() gave no batches; give at least one, anew at each call"
        )


def first_pictures(
    calibration: Calibration, shape: tuple[int, ...], asker: str, count: int
) -> Iterator[Batch]:
    """The first `count` pictures, in the batches they come in; errors as `checked_batches`."""
    left = count
    for _, batch in checked_batches(calibration, shape, asker):
        yield batch[:left]
        left -= len(batch)
        if left <= 0:
            return


def _text(shape: tuple[object, ...]) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ")"
