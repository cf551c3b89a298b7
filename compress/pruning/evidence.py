"""From a criterion and the user's pictures to what the chooser asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from compress.candidate import Candidate
from compress.errors import TaskError
from compress.moments import layer_moments
from compress.pruning.coupled import CoupledSet
from compress.pruning.criteria import WITH_GRADIENTS, Criterion, comparable, score
from compress.pruning.gradients import WeightGradients, weight_gradients
from compress.pruning.losses import DivergenceLosses, FixedLosses, Floats, Losses
from compress.pruning.repair import MOST_INPUTS
from compress.task import Batch

Pictures = Callable[[], Iterable[Batch]]


def losses_of(
    criterion: Criterion,
    candidate: Candidate,
    sets: Sequence[CoupledSet],
    pictures: Pictures,
    seed: int,
) -> Losses:
    """The losses of all channels of `sets`; `pictures` is asked only by criteria that need them.

    A reader of more inputs than MOST_INPUTS has no part in the 'divergence' with repair; for it
    half the 'hessian' stands, the divergence without. TaskError for pictures that give no numbers.
    """
    if criterion == "divergence":
        return _divergence(candidate, sets, pictures, seed)
    gradients = None
    if criterion in WITH_GRADIENTS:
        gradients = _gradients(candidate, pictures, seed)
    scores = {s.name: score(criterion, s, candidate, gradients) for s in sets}
    return FixedLosses({name: comparable(criterion, found) for name, found in scores.items()})


def _divergence(
    candidate: Candidate, sets: Sequence[CoupledSet], pictures: Pictures, seed: int
) -> DivergenceLosses:
    read = {tensor for one in sets for tensor, axis in one.slots if axis == 1}
    readers = [layer for layer in candidate.network.layers() if layer.weight in read]
    small = [layer for layer in readers if np.prod(layer.shape[1:]) <= MOST_INPUTS]
    large = {layer.weight for layer in readers} - {layer.weight for layer in small}
    batches = list(pictures())
    moments = layer_moments(candidate.network, small, batches, seed) if small else {}
    for name, found in moments.items():
        if not (np.isfinite(found.inputs).all() and np.isfinite(found.outputs).all()):
            raise TaskError(
                f"PruneChannels: calibration gives NaN or infinity at layer {name!r}; check the "
                f"batches' values and the net's weights"
            )
    fixed: dict[str, Floats] = {}
    if large:
        gradients = _gradients(candidate, lambda: batches, seed)
        for one in sets:
            only = _only(one, large)
            if only is not None:
                fixed[one.name] = score("hessian", only, candidate, gradients) / 2
    return DivergenceLosses(candidate, sets, moments, sum(map(len, batches)), fixed)


def _gradients(candidate: Candidate, pictures: Pictures, seed: int) -> WeightGradients:
    found = weight_gradients(candidate.network, pictures(), seed)
    for name, squares in found.squares.items():
        if not np.isfinite(squares).all():
            raise TaskError(
                f"PruneChannels: calibration gives NaN or infinity at {name!r}; check the "
                f"batches' values and the net's weights"
            )
    return found


def _only(one: CoupledSet, weights: set[str]) -> CoupledSet | None:
    """The set as these weights alone read it; None where they do not."""
    slots = {slot: table for slot, table in one.slots.items() if slot[0] in weights and slot[1]}
    if not slots:
        return None
    return CoupledSet(
        one.name, one.layers, one.channels, slots, one.classes, one.multiple, one.bundle
    )
