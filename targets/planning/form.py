"""The form of a net: all that sizes and times depend on, without the values that training finds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compress.candidate import Candidate
    from compress.network import LayerInfo

Kind = Literal["float", "shared", "integer"]


@dataclass(frozen=True)
class LayerForm:
    """One convolution or fully connected layer.

    inputs, outputs: channels; kernel: values a channel pair has; moved: values that one picture
    makes it read and write, weights apart. kind and bits of a stored weight: 32 of a float, 16
    where all of them are numbers of half precision, which a container stores so.
    """

    name: str
    role: str
    inputs: int
    outputs: int
    groups: int
    kernel: int
    macs: int
    moved: int
    weights: int
    zeros: int
    kind: Kind = "float"
    bits: int = 32


@dataclass(frozen=True)
class NetForm:
    """A net. nonzeros of all parameters; integer_math: activations have integer grids."""

    parameters: int
    nonzeros: int
    macs: int
    layers: tuple[LayerForm, ...]
    integer_math: bool = False
    float_layers: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """The share of the layers' weights that are zero, in [0, 1]."""
        return sum(layer.zeros for layer in self.layers) / max(1, self.weights)

    @property
    def depthwise_moved(self) -> float:
        """The share of all values read and written that depthwise layers read and write."""
        every = sum(layer.moved for layer in self.layers)
        return sum(la.moved for la in self.layers if la.role == "depthwise") / max(1, every)


def form_of(candidate: Candidate) -> NetForm:
    """Counted exactly, in one pass of the net on one picture of zeros."""
    from compress.measure import count

    counted = count(candidate.spec, candidate.network.module())
    calls = {layer.name: layer for layer in counted.layers}
    layers = tuple(
        _layer(candidate, layer, calls[layer.name].macs, calls[layer.name].output_shape)
        for layer in candidate.network.layers()
        if layer.name in calls and calls[layer.name].macs
    )
    return NetForm(
        counted.parameters,
        counted.nonzeros,
        counted.macs,
        layers,
        bool(candidate.activations),
        candidate.float_nodes,
    )


def _layer(
    candidate: Candidate, layer: LayerInfo, macs: int, output_shape: tuple[int, ...]
) -> LayerForm:
    weight = candidate.network.parameters().get(layer.weight)
    outputs, inputs = layer.shape[layer.axis], layer.shape[1] * layer.groups
    places = math.prod(output_shape) // max(1, outputs)
    kind, bits = _stored(candidate, layer.weight)
    return LayerForm(
        name=layer.name,
        role=layer.role,
        inputs=inputs,
        outputs=outputs,
        groups=layer.groups,
        kernel=math.prod(layer.shape[2:]),
        macs=macs,
        # A stride skips inputs that a later layer would not have: about as many come in.
        moved=places * (inputs + outputs),
        weights=0 if weight is None else weight.size,
        zeros=0 if weight is None else int(weight.size - np.count_nonzero(weight)),
        kind=kind,
        bits=bits,
    )


def _stored(candidate: Candidate, weight: str) -> tuple[Kind, int]:
    from compress.encoding import Encoded

    encoding = candidate.encodings.get(weight)
    if not isinstance(encoding, Encoded):
        return "float", 16 if _is_half(candidate.network.parameters().get(weight)) else 32
    return ("integer" if encoding.on_integers else "shared"), encoding.bits


def _is_half(weight: NDArray[np.float32] | None) -> bool:
    if weight is None:
        return False
    with np.errstate(over="ignore"):
        return bool((weight.astype(np.float16) == weight).all())
