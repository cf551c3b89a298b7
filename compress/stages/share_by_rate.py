"""ShareByRate: weights on few levels, as small as a given divergence of the answers allows.

Rate-distortion coding by output error, without labels and without training. Errors of a layer's
weights are made good by its other weights (Frantar et al. 2023, arXiv:2210.17323); what an error
costs is the divergence of the net's answers (moments.py); one price of a bit for the whole net ties
the layers together, so that the last bit of each buys the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from compress.calibrate import checked_batches
from compress.candidate import Candidate, Skipped
from compress.compensation import as_groups, factorize
from compress.divergence import Divergence
from compress.encoding import Encoded
from compress.errors import RangeError
from compress.moments import Moments, layer_moments
from compress.network import LayerInfo
from compress.rate_coding import Sensitivity, Tradeoff, coded, rounded_bias, used_bytes
from compress.rate_models import MODELS, RateModel
from compress.stage import StageResult
from compress.stages.layers import check_patterns, choose
from compress.task import Batch, Task

# Shares of the mean that are added to the diagonals, so that what few pictures show is not
# believed too much: of inputs as Frantar et al. do, of outputs as much again.
_INPUT_DAMPING = 0.01
_OUTPUT_DAMPING = 1.0
# Prices are searched between these, nats a bit, to 5 % of a price (0.03 bits a weight).
_PRICES = (1e-12, 1e-1)
_NEAR = 0.05
# One calibration picture in so many only judges.
_JUDGES = 4


@dataclass(frozen=True)
class ShareByRate:
    """Give each layer's weights levels that are worth their bits; exactly one limit is given.

    price: nats of divergence a picture that one bit may save, at least 0. divergence: the greatest
    mean divergence (nats a picture) from the net before, on every fourth calibration picture, which
    then only judges. coded_bytes: the most bytes of codes by the rate model, codebooks and scales,
    of the layers worked on.
    rate: how much of the price the choice of a level sees, in [0, 1]; the grid's step sees all.
    model: the coder that says how many bits a level takes (rate_models.py). "order0", "huffman" and
    "context" share the grids; "packed" chooses the number of levels, for a packed .onnx.

    Float weights get an even grid for each layer (an integer codebook and one scale). Weights that
    are encoded already keep codebook and scale and get new codes ("packed": on fewer of the levels,
    where that saves a bit). Zeros stay zeros. The mean of
    each output is kept by its bias, where the layer has one, which lies on an even grid then.
    """

    price: float | None = None
    divergence: float | None = None
    coded_bytes: int | None = None
    rate: float = 0.0
    model: Literal["order0", "huffman", "context", "packed"] = "order0"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_patterns("ShareByRate", include=self.include, exclude=self.exclude)
        limits = {
            "price": self.price,
            "divergence": self.divergence,
            "coded_bytes": self.coded_bytes,
        }
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if len(given) != 1:
            raise RangeError(
                f"ShareByRate({', '.join(given) or 'no limit'}): exactly one of price, divergence "
                f"and coded_bytes is needed"
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
        seen = _seen(candidate, layers, task, fit)
        touched = tuple(layer for layer in layers if layer.name in seen.moments)
        unused = [la for la in layers if la.name not in seen.moments]
        skipped += [Skipped(la.name, "the net never uses it") for la in unused]
        work = _Work(candidate, touched, seen, (self.rate, MODELS[self.model]))
        done = work.at(self._price(work, task))
        return StageResult(done, tuple(la.name for la in touched), tuple(skipped))

    def _price(self, work: _Work, task: Task) -> float:
        """The given price, or the one at which the limit is just kept."""
        if self.price is not None:
            return self.price
        found: float | None
        if self.coded_bytes is not None:
            limit = self.coded_bytes
            found = _search(lambda price: work.bytes_of(work.at(price)) <= limit, dear=True)
            asked = f"coded_bytes={limit}"
        else:
            bound, before = self.divergence, work.candidate
            assert bound is not None
            judge = Divergence.of(before.predict, lambda: _pictures(before, task, (_JUDGES - 1,)))
            found = _search(lambda price: judge(work.at(price).predict) <= bound, dear=False)
            asked = f"divergence={bound}"
        if found is None:
            raise RangeError(
                f"ShareByRate({asked}) cannot be kept at any price; allow more, or leave layers "
                f"out by exclude"
            )
        return found


class _Seen(NamedTuple):
    """What the calibration pictures showed of each layer; no price changes it."""

    moments: Mapping[str, Moments]
    sensitivities: Mapping[str, Sensitivity]


# For the next price of the same candidate: this takes minutes, a price seconds.
_KEPT: WeakKeyDictionary[Candidate, tuple[object, _Seen]] = WeakKeyDictionary()


def _seen(
    candidate: Candidate, layers: Sequence[LayerInfo], task: Task, fit: Collection[int]
) -> _Seen:
    names = [layer.name for layer in layers]
    asked = (names, task.calibration, task.fingerprint, task.seed, fit)
    known = _KEPT.get(candidate)
    if known is not None and known[0] == asked:
        return known[1]
    pictures = _pictures(candidate, task, fit)
    moments = layer_moments(candidate.network, layers, pictures, task.seed)
    seen = _Seen(moments, {name: _sensitivity(of) for name, of in moments.items()})
    _KEPT[candidate] = asked, seen
    return seen


class _Work:
    """The net's layers at any price."""

    def __init__(
        self,
        candidate: Candidate,
        layers: Sequence[LayerInfo],
        seen: _Seen,
        choosing: tuple[float, RateModel],
    ) -> None:
        self.candidate = candidate
        self._layers = layers
        self._moments, self._sensitivities = seen
        self._rate, self._model = choosing
        self._own = candidate.network.parameters()

    def at(self, price: float) -> Candidate:
        tradeoff = Tradeoff(price, self._rate, self._model)
        encodings: dict[str, Encoded] = {}
        values: dict[str, NDArray[np.float32]] = {}
        for layer in self._layers:
            weight, old = self._own[layer.weight], self.candidate.encodings.get(layer.weight)
            known = old if isinstance(old, Encoded) else None
            zeros = weight == 0 if old is None else old.zeros()
            done = coded(weight, known, zeros, self._sensitivities[layer.name], tradeoff)
            encodings[layer.weight] = done
            if layer.bias in self._own and layer.bias not in self.candidate.encodings:
                values[layer.bias] = self._bias(layer, done.decode() - weight, price)
        return self.candidate.with_values(values, encodings)

    def _bias(
        self, layer: LayerInfo, error: NDArray[np.float32], price: float
    ) -> NDArray[np.float32]:
        """The bias that keeps the mean of each output (Nagel et al. 2019, arXiv:1906.04721)."""
        assert layer.bias is not None
        seen = self._moments[layer.name]
        shift = np.einsum("gmn,gn->gm", as_groups(error, layer.groups), seen.means).reshape(-1)
        importance = self._sensitivities[layer.name].outputs.mean() * seen.positions / 2
        return rounded_bias(self._own[layer.bias] - shift, price, float(importance))

    def bytes_of(self, done: Candidate) -> float:
        names = [layer.weight for layer in self._layers]
        found = [done.encodings[name] for name in names]
        return sum(used_bytes(e, self._model) for e in found if isinstance(e, Encoded))


def _sensitivity(seen: Moments) -> Sensitivity:
    outputs = np.diagonal(seen.outputs, axis1=1, axis2=2)
    return Sensitivity(
        factorize(seen.inputs, _INPUT_DAMPING), outputs + _OUTPUT_DAMPING * outputs.mean()
    )


def _search(fits: Callable[[float], bool], *, dear: bool) -> float | None:
    """The price nearest its limit at which `fits`; None where none does.

    dear: high prices fit (bytes fall with the price), else low ones (the divergence grows with it).
    """
    low, high = _PRICES
    good, bad = (high, low) if dear else (low, high)
    if not fits(good):
        return None
    if fits(bad):
        return bad
    while abs(math.log(good / bad)) > _NEAR:
        middle = math.sqrt(good * bad)
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _pictures(candidate: Candidate, task: Task, rest: Collection[int]) -> Iterator[Batch]:
    """The calibration pictures whose number leaves a remainder of `rest` when counted in fours."""
    calibration, shape = task.need_calibration("ShareByRate"), candidate.network.input_shape
    first = 0
    for _, batch in checked_batches(calibration, shape, "ShareByRate"):
        wanted = np.isin(np.arange(first, first + len(batch)) % _JUDGES, list(rest))
        first += len(batch)
        if wanted.any():
            yield batch[wanted]
