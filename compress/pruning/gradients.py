"""Gradients of a net's weights over calibration pictures, for criteria that need them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compress.moments import BLOCK, pull
from compress.network import TorchNetwork, blocks
from compress.task import Batch

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightGradients:
    """By parameter name, in its shape. The gradients are those whose covariance is that of the
    divergence of the answers (see moments.pull), so no label is needed.

    absolute: the mean of |g| over backward passes. squares: g^2 of a picture, in the mean.
    """

    absolute: Mapping[str, Floats]
    squares: Mapping[str, Floats]


def weight_gradients(network: TorchNetwork, batches: Iterable[Batch], seed: int) -> WeightGradients:
    """The gradients of all parameters that the answers depend on. The same seed gives the same."""
    model = network.module().requires_grad_(True)
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    absolute = {name: np.zeros(tuple(p.shape)) for name, p in parameters.items()}
    squares = {name: np.zeros(tuple(p.shape)) for name, p in parameters.items()}
    passes, pictures = 0, 0
    size = BLOCK if network.graph.dynamic_batch else 1
    with torch.enable_grad():
        for batch in batches:
            for block in blocks(batch, size):
                model.zero_grad(set_to_none=True)
                pull(model(block), generator)
                passes, pictures = passes + 1, pictures + len(block)
                for name, parameter in parameters.items():
                    if parameter.grad is not None:
                        found = parameter.grad.double().numpy()
                        absolute[name] += np.abs(found)
                        # Of independent pulls: squares of sums are sums of squares.
                        squares[name] += found**2
    return WeightGradients(
        {name: a / max(1, passes) for name, a in absolute.items()},
        {name: s / max(1, pictures) for name, s in squares.items()},
    )
