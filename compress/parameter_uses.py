"""Which layers' parameters serve elsewhere, too: changing them would change more than the layer."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from compress.network import TorchNetwork


def serving_elsewhere(network: TorchNetwork) -> frozenset[str]:
    """Names of the layers whose weight or bias is another's, too, or is read more than once."""
    state = network.state()
    program = network.graph.program.graph
    readers = Counter({str(n.target): len(n.users) for n in program.nodes if n.op == "get_attr"})
    layers = {
        layer.name: [n for n in (layer.weight, layer.bias) if n is not None]
        for layer in network.layers()
    }
    owners = Counter(_address(state[name]) for own in layers.values() for name in own)
    return frozenset(
        layer
        for layer, own in layers.items()
        if any(readers[name] > 1 or owners[_address(state[name])] > 1 for name in own)
    )


def _address(array: NDArray[np.generic]) -> int:
    return array.__array_interface__["data"][0]
