"""ShareByRate: weights on few levels, as small as a given divergence of the answers allows.

Rate-distortion coding by output error, without labels and without training. Errors of a layer's
weights are made good by its other weights (Frantar et al. 2023, arXiv:2210.17323); what an error
costs is the divergence of the net's answers (moments.py); one price of a bit for the whole net ties
the layers together, so that the last bit of each buys the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from compress.calibrate import checked_batches
from compress.candidate import Candidate, Skipped
from compress.divergence import Divergence
from compress.errors import RangeError
from compress.rate_models import MODELS
from compress.rate_net import RateNet, search_price, seen_layers
from compress.stage import StageResult
from compress.stages.layers import check_patterns, choose
from compress.task import Batch, Task

# One calibration picture in so many only judges.
_JUDGES = 4


@dataclass(frozen=True)
class ShareByRate:
    """Give each layer's weights levels that are worth their bits; exactly one limit is given.

    price: nats of divergence a picture that one bit may save, at least 0. divergence: the greatest
    mean divergence (nats a picture) from the net before, on every fourth calibration picture, which
    then only judges. drop: the greatest fall of task.evaluate's `metric`, of which more is better.
    coded_bytes: the most bytes of codes by the rate model, codebooks and scales, of the layers
    worked on. For each but the price, the price is found at which it is just kept.

    rate: how much of the price the choice of a level sees, in [0, 1]; the grid's step sees all.
    model: the coder that says how many bits a level takes (rate_models.py). "order0", "huffman" and
    "context" share the grids, and serve containers and packed .onnx alike; "packed" chooses the
    number of levels, for codes of one width: OnnxPackedExporter(quick=True).

    Float weights get an even grid for each layer (an integer codebook and one scale). Weights that
    are encoded already keep codebook and scale and get new codes ("packed": on fewer of the levels,
    where that saves a bit). Zeros stay zeros. The mean of each output is kept by its bias, where
    the layer has one, which lies on an even grid then.
    """

    price: float | None = None
    divergence: float | None = None
    drop: float | None = None
    metric: str = "top1"
    coded_bytes: int | None = None
    rate: float = 0.0
    model: Literal["order0", "huffman", "context", "packed"] = "order0"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True
    judges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_patterns("ShareByRate", include=self.include, exclude=self.exclude)
        limits = {
            "price": self.price,
            "divergence": self.divergence,
            "drop": self.drop,
            "coded_bytes": self.coded_bytes,
        }
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if len(given) != 1:
            raise RangeError(
                f"ShareByRate({', '.join(given) or 'no limit'}): exactly one of price, divergence, "
                f"drop and coded_bytes is needed"
            )
        for name, limit in given.items():
            if type(limit) not in (int, float) or not 0 <= limit < math.inf:
                raise RangeError(f"ShareByRate({name}={limit!r}): allowed are numbers from 0 up")
        if type(self.rate) not in (int, float) or not 0 <= self.rate <= 1:
            raise RangeError(f"ShareByRate(rate={self.rate!r}): allowed are 0 to 1")
        if self.model not in MODELS:
            raise RangeError(
                f"ShareByRate(model={self.model!r}): allowed are {', '.join(map(repr, MODELS))}"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        layers, skipped = choose(candidate, self.include, self.exclude)
        # Judges take no part in the moments, or they would find the errors smaller than they are.
        fit = range(_JUDGES if self.divergence is None else _JUDGES - 1)
        shown = (task.calibration, task.fingerprint, fit)
        seen = seen_layers(
            candidate, layers, lambda: _pictures(candidate, task, fit), task.seed, shown
        )
        touched = tuple(layer for layer in layers if layer.name in seen.moments)
        unused = [la for la in layers if la.name not in seen.moments]
        skipped += [Skipped(la.name, "the net never uses it") for la in unused]
        net = RateNet(candidate, touched, seen, self.rate, MODELS[self.model])
        done = net.at(self._price(net, task))
        return StageResult(done, tuple(la.name for la in touched), tuple(skipped))

    def _price(self, net: RateNet, task: Task) -> float:
        """The given price, or the one at which the limit is just kept."""
        if self.price is not None:
            return self.price
        before, found = net.candidate, None
        if (most := self.coded_bytes) is not None:
            found = search_price(lambda price: net.bytes_of(net.at(price)) <= most, dear=True)
            asked = f"coded_bytes={most}"
        elif (drop := self.drop) is not None:

            def score(candidate: Candidate) -> float:
                return task.score(candidate.predict, self.metric, "ShareByRate")

            least = score(before) - drop
            found = search_price(lambda price: score(net.at(price)) >= least, dear=False)
            asked = f"drop={drop}"
        else:
            bound = self.divergence
            assert bound is not None
            judge = Divergence.of(before.predict, lambda: _pictures(before, task, (_JUDGES - 1,)))
            found = search_price(lambda price: judge(net.at(price).predict) <= bound, dear=False)
            asked = f"divergence={bound}"
        if found is None:
            raise RangeError(
                f"ShareByRate({asked}) cannot be kept at any price; allow more, or leave layers "
                f"out by exclude"
            )
        return found


def _pictures(candidate: Candidate, task: Task, rest: Collection[int]) -> Iterator[Batch]:
    """The calibration pictures whose number leaves a remainder of `rest` when counted in fours."""
    calibration, shape = task.need_calibration("ShareByRate"), candidate.network.input_shape
    first = 0
    for _, batch in checked_batches(calibration, shape, "ShareByRate"):
        wanted = np.isin(np.arange(first, first + len(batch)) % _JUDGES, list(rest))
        first += len(batch)
        if wanted.any():
            yield batch[wanted]
