"""Parameters and MACs of a layer and of the thin layers that would stand in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.network import LayerInfo, TorchNetwork

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Positions of a layer in one picture, all its calls together.

    inputs and outputs: of its input and its output; halfway: of as many rows as the output and as
    many columns as the input. Equal for a linear layer.
    """

    inputs: int
    halfway: int
    outputs: int


@dataclass(frozen=True, eq=False)
class Costs:
    """Weights and MACs, (k,) each, of k forms; biases not counted."""

    parameters: Floats
    macs: Floats


def places_of(network: TorchNetwork, layers: Sequence[LayerInfo]) -> dict[str, Places]:
    """Of each layer by name, from one picture of zeros; layers that are never called are absent."""
    model = network.module()
    found: dict[str, Places] = {}

    def see(name: str, layer: nn.Module, given: torch.Tensor, output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            high, wide = output.shape[2:]
            seen = (given[0, 0].numel(), high * given.shape[3], high * wide)
        else:
            seen = (output.numel() // output.shape[-1],) * 3
        old = found.get(name, Places(0, 0, 0))
        found[name] = Places(old.inputs + seen[0], old.halfway + seen[1], old.outputs + seen[2])

    for info in layers:
        layer = model.get_submodule(info.name)

        def hook(
            layer: nn.Module,
            given: tuple[torch.Tensor, ...],
            out: torch.Tensor,
            name: str = info.name,
        ) -> None:
            see(name, layer, given[0], out)

        layer.register_forward_hook(hook)
    with torch.inference_mode():
        model(torch.zeros(1, *network.input_shape[1:]))
    return found


def dense_costs(shape: tuple[int, ...], places: Places) -> Costs:
    """Of the layer as it is, one form; shape: of its weight, one group."""
    size = np.array([float(np.prod(shape))])
    return Costs(size, size * places.outputs)


def split_costs(
    shape: tuple[int, ...], split: str, ranks: NDArray[np.int64], places: Places
) -> Costs:
    """Of each of `ranks`, (k, 2): (rank, rank_in)."""
    rank, rank_in = ranks.T.astype(np.float64)
    outputs, inputs = shape[:2]
    high, wide = shape[2:] if len(shape) > 2 else (1, 1)
    if split == "channel":
        parts = [(rank * inputs * high * wide, places.outputs), (rank * outputs, places.outputs)]
    elif split == "spatial":
        parts = [(rank * inputs * high, places.halfway), (rank * outputs * wide, places.outputs)]
    else:
        core = rank * rank_in * high * wide
        parts = [
            (rank_in * inputs, places.inputs),
            (core, places.outputs),
            (rank * outputs, places.outputs),
        ]
    weights = np.sum([size for size, _ in parts], axis=0)
    return Costs(weights, np.sum([size * at for size, at in parts], axis=0))


def form_costs(
    shape: tuple[int, ...], splits: Sequence[str], ranks: NDArray[np.int64], places: Places
) -> Costs:
    """Of each of `ranks`, (k, 2), by the split of the same place."""
    names = np.array(splits)
    parameters, macs = np.zeros(len(names)), np.zeros(len(names))
    for split in sorted(set(splits)):
        which = names == split
        found = split_costs(shape, split, ranks[which], places)
        parameters[which], macs[which] = found.parameters, found.macs
    return Costs(parameters, macs)


def saves(costs: Costs, dense: Costs) -> NDArray[np.bool_]:
    """Where there are both fewer weights and fewer MACs."""
    return (costs.parameters < dense.parameters) & (costs.macs < dense.macs)
