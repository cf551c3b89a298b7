"""Coupled sets and scores against torch-pruning's, on the nets of compress/models where it works.

It fails on ShuffleNetV2; in ShuffleNetV1 it scores grouped convolutions as if each group had all
the weights. The three stages of a CIFAR ResNet are one group to it, because channels pass through
the zero-padded shortcuts; ours can be cut apart. Its geometric median takes the weights' absolute
values, so here they have no other sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import Candidate
from compress.pruning.coupled import CoupledSet
from compress.pruning.criteria import Criterion, score
from compress.pruning.gradients import WeightGradients
from compress.pruning.structure import coupled_sets
from tests.every_net import lively
from tests.pruning_peer import Slots, groups_of, peer, scores_of, slots_of

# One of each family.
NETS = ("lenet5", "vgg16", "squeezenet1_1", "mobilenet_v1", "mobilenet_v2")


def theirs(candidate: Candidate, model: nn.Module) -> list[tuple[Any, Slots]]:
    found = groups_of(model, candidate.network.input_shape)
    return [(group, slots_of(model, group)) for group in found]


def ours(candidate: Candidate) -> dict[frozenset[tuple[str, int]], CoupledSet]:
    """Each set by its weights' slots, which are those of torch-pruning."""
    norms = {
        n.parameters["weight"]
        for n in candidate.network.graph.nodes
        if n.id.operator == "batch_norm"
    }
    weights = {layer.weight for layer in candidate.network.layers()} | norms
    sets, _ = coupled_sets(candidate)
    return {frozenset(slot for slot in s.slots if slot[0] in weights): s for s in sets}


def rows(slots: Slots, order: list[tuple[str, int]]) -> list[tuple[tuple[int, ...], ...]]:
    """Each channel as its indices in every slot: what must be the same in any order."""
    return sorted(
        tuple(tuple(sorted(slots[slot][channel].tolist())) for slot in order)
        for channel in range(len(slots[order[0]]))
    )


@pytest.mark.parametrize("name", NETS)
def test_the_same_channels_are_coupled(name: str) -> None:
    candidate = lively(name)
    found = ours(candidate)
    groups = theirs(candidate, candidate.network.module())
    assert len(groups) == len(found)
    for _, slots in groups:
        own = found[frozenset(slots)]
        order = sorted(slots)
        assert rows(slots, order) == rows(dict(own.slots), order)


def importances() -> dict[Criterion, Callable[[Any], torch.Tensor | None]]:
    kinds = peer().importance
    return {
        "l1": kinds.MagnitudeImportance(p=1, normalizer=None),
        "l2": kinds.MagnitudeImportance(p=2, normalizer=None),
        "batch_norm": kinds.BNScaleImportance(normalizer=None),
        "geometric_median": kinds.FPGMImportance(p=1, normalizer=None),
        "taylor": kinds.TaylorImportance(normalizer=None),
        "hessian": kinds.HessianImportance(normalizer=None),
    }


def positive(candidate: Candidate) -> Candidate:
    own = candidate.network.parameters()
    return candidate.with_values({n: np.abs(v) for n, v in own.items()}, {})


def with_gradients(model: nn.Module) -> WeightGradients:
    """Made-up ones of one backward pass, which torch-pruning finds in the model."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, np.ndarray] = {}
    for name, parameter in model.requires_grad_(True).named_parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        found[name] = parameter.grad.double().numpy()
    return WeightGradients(
        {n: np.abs(g) for n, g in found.items()}, {n: g**2 for n, g in found.items()}
    )


@pytest.mark.parametrize("name", NETS)
def test_the_same_scores(name: str) -> None:
    candidate = positive(lively(name))
    model = candidate.network.module()
    gradients = with_gradients(model)
    found = ours(candidate)
    for criterion, importance in importances().items():
        for group, slots in theirs(candidate, model):
            own = found[frozenset(slots)]
            if criterion == "geometric_median" and max(t.shape[1] for t in slots.values()) > 1:
                continue  # it measures each feature behind a flatten alone
            if criterion == "batch_norm" and importance(group) is None:
                assert not score(criterion, own, candidate).any()
                continue
            if criterion == "hessian":  # it takes the gradients of one picture after another
                gradients = with_gradients(model)
                importance.accumulate_grad(model)  # type: ignore[attr-defined]
            expected = scores_of(importance, group)
            scored = score(criterion, own, candidate, gradients)
            theirs_first = slots[min(slots)]
            ours_first = own.slots[min(slots)]
            order = [
                int(np.flatnonzero((ours_first == row).all(axis=1))[0]) for row in theirs_first
            ]
            np.testing.assert_allclose(
                scored[order], expected, rtol=2e-3, atol=2e-5 * np.abs(expected).max()
            )
