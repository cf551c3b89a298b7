"""A net's layers on levels that are worth their bits, at any price of a bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.compensation import as_groups, factorize
from compress.encoding import Encoded
from compress.moments import Moments, layer_moments
from compress.network import LayerInfo
from compress.rate_coding import Sensitivity, Tradeoff, coded, rounded_bias, used_bytes
from compress.rate_models import RateModel
from compress.task import Batch

# Shares of the mean that are added to the diagonals, so that what few pictures show is not
# believed too much: of inputs as Frantar et al. do, of outputs as much again.
_INPUT_DAMPING = 0.01
_OUTPUT_DAMPING = 1.0
# Prices are searched between these, nats a bit, to 5 % of a price (0.03 bits a weight).
_PRICES = (1e-12, 1e-1)
_NEAR = 0.05


class Seen(NamedTuple):
    """What the calibration pictures showed of each layer; no price changes it."""

    moments: Mapping[str, Moments]
    sensitivities: Mapping[str, Sensitivity]


# For the next price of the same candidate: this takes minutes, a price seconds.
_KEPT: WeakKeyDictionary[Candidate, tuple[object, Seen]] = WeakKeyDictionary()


def seen_layers(
    candidate: Candidate,
    layers: Sequence[LayerInfo],
    pictures: Callable[[], Iterable[Batch]],
    seed: int,
    source: object,
) -> Seen:
    """What `pictures` show of each of the layers; of the same `source`, from the last time."""
    asked = ([layer.name for layer in layers], seed, source)
    known = _KEPT.get(candidate)
    if known is not None and known[0] == asked:
        return known[1]
    moments = layer_moments(candidate.network, layers, pictures(), seed)
    seen = Seen(moments, {name: _sensitivity(of) for name, of in moments.items()})
    _KEPT[candidate] = asked, seen
    return seen


class RateNet:
    """The layers of a candidate at any price; rate and model: as in rate_coding.Tradeoff."""

    def __init__(
        self,
        candidate: Candidate,
        layers: Sequence[LayerInfo],
        seen: Seen,
        rate: float,
        model: RateModel,
    ) -> None:
        self.candidate = candidate
        self._layers = layers
        self._moments, self._sensitivities = seen
        self._rate, self._model = rate, model
        self._own = candidate.network.parameters()

    def at(self, price: float) -> Candidate:
        """The candidate coded at `price`, nats of divergence a picture for a bit."""
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
        """Bytes of the layers' codes by the rate model, of their codebooks and scales."""
        names = [layer.weight for layer in self._layers]
        found = [done.encodings[name] for name in names]
        return sum(used_bytes(e, self._model) for e in found if isinstance(e, Encoded))


def _sensitivity(seen: Moments) -> Sensitivity:
    outputs = np.diagonal(seen.outputs, axis1=1, axis2=2)
    return Sensitivity(
        factorize(seen.inputs, _INPUT_DAMPING), outputs + _OUTPUT_DAMPING * outputs.mean()
    )


def search_price(fits: Callable[[float], bool], *, dear: bool) -> float | None:
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
