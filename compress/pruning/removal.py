"""Removing channels: the smaller candidate, its edits and its values, from exact kept indices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.edit import Edit
from compress.errors import RangeError
from compress.keep_channels import KeepChannels, keep
from compress.network import TorchNetwork
from compress.pruning.coupled import CoupledSet, Numbers, Slot
from compress.pruning.following import Followed
from compress.pruning.grouping import LAYERS, Fate, Touched
from compress.pruning.masked import check_same, masked
from compress.pruning.planning import Plan, planned
from compress.pruning.structure import Structure, structure
from compress.stages.layers import rebuilt

State = dict[str, NDArray[Any]]


def remove(candidate: Candidate, kept: Mapping[str, Numbers]) -> Candidate:
    """The candidate with the `kept` channels of each set alone; sets not named stay whole.

    kept: by set name, different channels in rising order, as many of each class as `planned`
    says (`best_kept` gives such). The candidate must be dense: its encodings are not carried over.
    RangeError for anything else, and where the result does not compute what it must.
    """
    known = structure(candidate)
    sets = {one.coupled.name: one for one in known.sets}
    for name, channels in kept.items():
        if name in sets:
            _check_kept(sets[name].coupled, channels)
    plan = planned(candidate, {name: len(channels) for name, channels in kept.items()})
    for name, channels in kept.items():
        _check_quota(sets[name].coupled, channels, plan)
    indices = _indices(known, plan, _assigned(known, plan, kept))
    if not indices:
        return candidate
    edits = [*plan.widths, *_edits(candidate, known.followed, indices)]
    state = _state(candidate, known.followed, plan.followed, indices)
    done = rebuilt(candidate, edits, state, {})
    _hand_on(plan, done.network)
    check_same(masked(candidate, [one.coupled for one in known.sets], kept), done)
    return done


def _check_kept(one: CoupledSet, kept: Numbers) -> None:
    rising = len(kept) > 0 and (np.diff(kept) > 0).all()
    if not rising or kept[0] < 0 or kept[-1] >= one.channels:
        raise RangeError(
            f"kept channels of set {one.name!r}: different ones from 0 to {one.channels - 1} in "
            f"rising order are needed, at least one"
        )


def _check_quota(one: CoupledSet, kept: Numbers, plan: Plan) -> None:
    counts = np.bincount(one.classes[kept], minlength=len(plan.quotas[one.name]))
    if (counts != plan.quotas[one.name]).any():
        raise RangeError(
            f"kept channels of set {one.name!r}: {counts.tolist()} of its classes, and the net "
            f"takes {plan.quotas[one.name].tolist()}; choose them by best_kept"
        )


def _assigned(known: Structure, plan: Plan, kept: Mapping[str, Numbers]) -> dict[int, int]:
    """By label of the new net the label of the old net that takes its place."""
    gone: set[int] = set()
    for one in known.sets:
        if one.coupled.name in kept:
            gone |= set(np.delete(one.labels, kept[one.coupled.name]).tolist())
    old = _by_fate(known.at, gone)
    new = _by_fate(plan.at, set())
    assert {fate: len(labels) for fate, labels in new.items()} == {
        fate: len(labels) for fate, labels in old.items()
    }
    return {
        one: other
        for fate, labels in new.items()
        for one, other in zip(labels, old[fate], strict=True)
    }


def _by_fate(at: Touched, without: set[int]) -> dict[Fate, list[int]]:
    found: dict[Fate, list[int]] = defaultdict(list)
    for label in sorted(at.fates):
        if label not in without:
            found[at.fates[label]].append(label)
    return found


def _indices(known: Structure, plan: Plan, assigned: Mapping[int, int]) -> dict[Slot, Numbers]:
    """Of each slot that changes the old index at each new one."""
    found: dict[Slot, Numbers] = {}
    for slot, labels in plan.followed.slots.items():
        seen: Counter[int] = Counter()
        indices = np.empty(len(labels), np.int64)
        for place, label in enumerate(labels.tolist()):
            indices[place] = known.at.places[assigned[label]][slot][seen[label]]
            seen[label] += 1
        before = len(known.followed.slots[slot])
        if before != len(indices) or (indices != np.arange(before)).any():
            found[slot] = indices
    return found


def _edits(candidate: Candidate, followed: Followed, indices: Mapping[Slot, Numbers]) -> list[Edit]:
    """One edit for all tensors that keep the same indices."""
    module = candidate.network.module()
    sides: dict[tuple[int, bytes], dict[str, dict[str, None]]] = {}
    arrays: dict[tuple[int, bytes], Numbers] = {}
    for slot, kept in indices.items():
        name, axis = slot
        key = (len(followed.slots[slot]), kept.tobytes())
        arrays[key] = kept
        own = sides.setdefault(key, {"outputs": {}, "inputs": {}, "tensors": {}})
        layer = name.rpartition(".")[0]
        if isinstance(module.get_submodule(layer), LAYERS):
            own["inputs" if axis == 1 else "outputs"][layer] = None
        else:
            own["tensors"][f"{name}:{axis}"] = None
    edits: list[Edit] = []
    for key, own in sides.items():
        text, of, each = keep(key[0], arrays[key])
        parts = (tuple(own[side]) for side in ("outputs", "inputs", "tensors"))
        edits.append(KeepChannels(of, text, *parts, each=each))
    return edits


def _state(
    candidate: Candidate, old: Followed, new: Followed, indices: Mapping[Slot, Numbers]
) -> State:
    state: State = dict(candidate.network.state())
    for (name, axis), kept in sorted(indices.items()):  # axis 0 comes first
        groups = old.groups.get(name, 1)
        if axis == 1 and groups > 1:
            before = len(old.slots[name, 1]) // groups
            state[name] = _grouped_columns(state[name], kept, groups, before)
        else:
            state[name] = np.ascontiguousarray(np.take(state[name], kept, axis))
    assert all(new.groups.get(name) == groups for name, groups in old.groups.items())
    return state


def _grouped_columns(weight: NDArray[Any], kept: Numbers, groups: int, before: int) -> NDArray[Any]:
    """Input channels `kept` of a grouped convolution, whose outputs are chosen already."""
    rows, columns = len(weight) // groups, kept.reshape(groups, -1)
    assert (columns // before == np.arange(groups)[:, None]).all()
    parts = [
        np.take(weight[g * rows : (g + 1) * rows], columns[g] % before, 1) for g in range(groups)
    ]
    return np.concatenate(parts)


def _hand_on(plan: Plan, network: TorchNetwork) -> None:
    """Spare the new network a trace: the plan has it."""
    tensors = dict(network.module().state_dict(keep_vars=True))
    targets = {str(n.target) for n in plan.graph.program.graph.nodes if n.op == "get_attr"}
    if targets <= tensors.keys():
        held: dict[str, torch.Tensor] = network._tensors()  # pyright: ignore[reportPrivateUsage]
        network.__dict__["graph"] = plan.graph.with_state(held)
