"""How much each channel of a coupled set matters, by the criteria of the literature.

A channel's members are its rows of the weights that write it, its columns of those that read it and
its scales in batch norms; each weight and each batch norm is one member, and depthwise filters,
which act on one channel as a batch norm does, are none. A score is the mean over members (Fang et
al. 2023, "DepGraph", arXiv:2301.12900, section 3.3), which sums would bias to sets of many layers.

Scores of 'l1', 'l2', 'batch_norm' and 'geometric_median' have a set's own unit: `comparable`
divides them by the set's mean. 'taylor' and 'hessian' are losses in nats and compare as they are.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.pruning.coupled import CoupledSet, Slot
from compress.pruning.gradients import WeightGradients

Floats = NDArray[np.float64]
Criterion = Literal["divergence", "l1", "l2", "taylor", "hessian", "batch_norm", "geometric_median"]
CRITERIA: tuple[Criterion, ...] = (
    *("divergence", "l1", "l2", "taylor", "hessian", "batch_norm", "geometric_median"),
)
# Those that need the gradients of the answers, and so calibration pictures.
WITH_GRADIENTS = frozenset({"taylor", "hessian"})
# Losses, which compare between sets and may be divided by what is saved.
IN_NATS = frozenset({"divergence", *WITH_GRADIENTS})


def score(
    criterion: Criterion,
    coupled: CoupledSet,
    candidate: Candidate,
    gradients: WeightGradients | None = None,
) -> Floats:
    """(channels,) at least 0, the less the sooner a channel goes.

    l1, l2: sums of |w| (Li et al. 2017, arXiv:1608.08710) and of w^2 over the channel's weights.
    batch_norm: |scale| (Liu et al. 2017, arXiv:1708.06519); 0 for a set without batch norm.
    geometric_median: the sum of distances to the other channels' weights (He et al. 2019,
    arXiv:1811.00250, equation 8); batch norms are no members.
    taylor: sums of |w g| (Molchanov et al. 2019, arXiv:1906.10771), g of `gradients`; batch norms
    are no members. hessian: sums of w^2 h, h the diagonal of the Fisher information (LeCun et al.
    1990, "Optimal Brain Damage"): twice the divergence to expect. Both need `gradients`.
    """
    assert criterion in CRITERIA and criterion != "divergence"
    layers = {layer.weight: layer for layer in candidate.network.layers()}
    dense = {name for name, layer in layers.items() if layer.role != "depthwise"}
    norms = _norms(candidate)
    members = dense if criterion in ("geometric_median", "taylor") else dense | norms
    if criterion == "batch_norm":
        members = norms
    own = candidate.network.parameters()
    found: list[Floats] = []
    for slot in coupled.slots:
        if slot[0] in members and slot[0] in own:
            groups = layers[slot[0]].groups if slot[0] in layers else 1
            worth = _worth(criterion, slot[0], own[slot[0]].astype(np.float64), gradients)
            elements = _elements(worth, slot, coupled, groups)
            rule = _distances if criterion == "geometric_median" else _sums
            found.append(rule(elements))
    return np.mean(found, axis=0) if found else np.zeros(coupled.channels)


def comparable(criterion: Criterion, scores: Floats) -> Floats:
    """`scores` of a set in a unit that all sets share: see the head of this file."""
    mean = float(scores.mean())
    return scores if criterion in IN_NATS or mean == 0 else scores / mean


def _worth(
    criterion: Criterion, name: str, value: Floats, gradients: WeightGradients | None
) -> Floats:
    """What each weight is worth alone, in its shape; for the geometric median itself."""
    if criterion in WITH_GRADIENTS:
        assert gradients is not None
        if criterion == "taylor":
            return np.abs(value) * gradients.absolute[name]
        return value**2 * gradients.squares[name]
    if criterion == "geometric_median":
        return value
    return value**2 if criterion == "l2" else np.abs(value)


def _elements(value: Floats, slot: Slot, coupled: CoupledSet, groups: int) -> Floats:
    """(channels, elements): what goes with each channel; 0 where it has fewer."""
    if slot[1] == 0:
        rows = value.reshape(len(value), -1)
    else:
        inputs = value.reshape(groups, len(value) // groups, value.shape[1], -1)
        rows = inputs.swapaxes(1, 2).reshape(groups * value.shape[1], -1)
    # ABSENT, which is -1, takes the row of zeros.
    padded = np.concatenate((rows, np.zeros((1, rows.shape[1]))))
    return padded[coupled.slots[slot]].reshape(coupled.channels, -1)


def _sums(elements: Floats) -> Floats:
    return elements.sum(axis=1)


def _distances(elements: Floats) -> Floats:
    """To each row the sum of the Euclidean distances of all."""
    squares = np.square(elements).sum(axis=1)
    between = squares[:, None] + squares[None, :] - 2 * (elements @ elements.T)
    np.fill_diagonal(between, 0.0)
    return np.sqrt(np.maximum(between, 0.0)).sum(axis=1)


def _norms(candidate: Candidate) -> set[str]:
    """The names of the scales of batch norms."""
    nodes = candidate.network.graph.nodes
    return {
        n.parameters["weight"]
        for n in nodes
        if n.id.operator == "batch_norm" and "weight" in n.parameters
    }
