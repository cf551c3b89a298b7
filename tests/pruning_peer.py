"""Coupled channels and scores as torch-pruning has them: the oracle of our own.

torch-pruning is no part of the product; tests that need it skip where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

Slots = dict[tuple[str, int], np.ndarray]


def peer() -> ModuleType:
    """torch_pruning, or a skip that says how to get it."""
    return pytest.importorskip(
        "torch_pruning", reason="torch-pruning is missing: pip install torch-pruning"
    )


def groups_of(model: nn.Module, shape: tuple[int, ...]) -> Iterator[Any]:
    """The groups of torch-pruning, but for what writes the net's answers."""
    tp = peer()
    model = model.eval().requires_grad_(True)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=torch.randn(shape))
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]
    yield from graph.get_all_groups(ignored_layers=[last])


def slots_of(model: nn.Module, group: Any) -> Slots:
    """A group as (parameter, axis) -> (channels, k) indices, as CoupledSet.slots has them."""
    tp = peer()
    names = {module: name for name, module in model.named_modules()}
    found: dict[tuple[str, int], dict[int, list[int]]] = {}
    for number, (dep, idxs) in enumerate(group):
        module, act = dep.target.module, dep.handler
        inward = act in (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
        slot = (f"{names.get(module, '')}.weight", int(inward))
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            continue
        rows = found.setdefault(slot, {})
        for root, index in zip(group[number].root_idxs, idxs, strict=True):
            rows.setdefault(root, []).append(index)
    channels = len(group[0].idxs)
    return {slot: _array(rows, channels) for slot, rows in found.items()}


def _array(rows: dict[int, list[int]], channels: int) -> np.ndarray:
    width = max(map(len, rows.values()))
    table = np.full((channels, width), -1, np.int64)
    for row, indices in rows.items():
        table[row, : len(indices)] = sorted(indices)
    return table


def scores_of(importance: Callable[[Any], torch.Tensor | None], group: Any) -> np.ndarray:
    """(channels,) as torch-pruning scores them, its normalisation being that of `importance`."""
    found = importance(group)
    assert found is not None
    return found.detach().double().numpy()
