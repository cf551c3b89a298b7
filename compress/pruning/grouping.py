"""From labels to coupled sets: channels that the same layers write, and what each one touches."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.candidate import Candidate, Skipped
from compress.graph import TensorId
from compress.pruning.coupled import ABSENT, CoupledSet, Numbers, Slot
from compress.pruning.following import Followed

# What touches a channel: (tensor, axis, group of a grouped convolution, how often), sorted.
Fate = tuple[tuple[str, int, int, int], ...]
LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
_PAD = -1
_TIED = "its weight is another layer's, too"


@dataclass(frozen=True, eq=False)
class Touched:
    """By label: its places on each slot, in rising order, and its fate."""

    places: Mapping[int, Mapping[Slot, list[int]]]
    fates: Mapping[int, Fate]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """A coupled set and the label of each of its channels."""

    coupled: CoupledSet
    labels: Numbers


def touched(followed: Followed) -> Touched:
    """Where each label stands."""
    places: dict[int, dict[Slot, list[int]]] = defaultdict(dict)
    counts: dict[int, Counter[tuple[str, int, int]]] = defaultdict(Counter)
    for slot, labels in sorted(followed.slots.items()):
        per = len(labels) // followed.groups.get(slot[0], 1)
        for place, label in enumerate(labels.tolist()):
            places[label].setdefault(slot, []).append(place)
            counts[label][*slot, place // per] += 1
    for tensor, both in followed.pads.items():
        for label in np.concatenate(both).tolist():
            counts[label][str(tensor), _PAD, 0] += 1
            places[label].setdefault((str(tensor), _PAD), [])
    fates = {
        label: tuple(sorted((*key, count) for key, count in of.items()))
        for label, of in counts.items()
    }
    return Touched(dict(places), fates)


def grouped(candidate: Candidate, followed: Followed) -> tuple[list[LabelledSet], list[Skipped]]:
    """The sets whose labels are free, and the layers that write others, with the reason."""
    at = touched(followed)
    fixed = {**_held_elsewhere(candidate, followed), **followed.fixed}
    depthwise = [one.weight for one in candidate.network.layers()]
    weights = (*followed.dense, *(w for w in depthwise if w not in followed.dense))
    atoms: dict[tuple[bool, Fate], list[int]] = defaultdict(list)
    for label in sorted(at.fates):
        atoms[label in fixed, _written(at.fates[label], followed)].append(label)
    sets: list[LabelledSet] = []
    skipped: list[Skipped] = []
    for (is_fixed, _), labels in atoms.items():
        layers = _layers(at, labels, weights)
        if not layers:
            continue
        reason = "all its channels go together" if len(labels) == 1 else ""
        if f"{layers[0]}.weight" not in followed.dense:
            reason = "no layer writes what it reads"
        if not reason:
            reason = next((_pad_reason(candidate, t) for t in _pads(at, labels)), "")
        if is_fixed:
            skipped += [Skipped(layer, fixed[_first(at, labels, layer)]) for layer in layers]
        elif reason:
            skipped += [Skipped(layer, reason) for layer in layers]
        else:
            sets.append(_set(at, labels, layers, _name(layers[0], sets)))
    skipped += _unseen(candidate, followed)
    return [_with_rules(one, sets, followed) for one in sets], skipped


def _unseen(candidate: Candidate, followed: Followed) -> list[Skipped]:
    """Layers that the program does not name."""
    layers = [la for la in candidate.network.layers() if (la.weight, 0) not in followed.slots]
    other = "the net does not run it"
    state = candidate.network.state()
    owners = Counter(map(_address, state.values()))
    tied = {la.name for la in layers if owners[_address(state[la.weight])] > 1}
    return [Skipped(la.name, _TIED if la.name in tied else other) for la in layers]


def pad_attribute(module: nn.Module, amount: int) -> str | None:
    """The one attribute of `module` that is the whole number `amount`, None where it is not one."""
    own = {n: v for n, v in vars(module).items() if type(v) is int and not n.startswith("_")}
    found = [n for n, v in own.items() if v == amount]
    return found[0] if len(found) == 1 and amount > 0 else None


def _pads(at: Touched, labels: list[int]) -> list[TensorId]:
    names = {slot[0] for label in labels for slot in at.places[label] if slot[1] == _PAD}
    return [TensorId.parse(name) for name in sorted(names)]


def _pad_reason(candidate: Candidate, tensor: TensorId) -> str:
    """Why a padding with channels cannot be edited; empty where it can."""
    node = next(n for n, t in candidate.network.graph.ids.items() if t == tensor)
    amounts = [int(a) for a in node.args[1]]  # type: ignore[union-attr]
    module = candidate.network.module().get_submodule(tensor.module)
    if amounts[4] == amounts[5] and pad_attribute(module, amounts[4]) is not None:
        return ""
    return (
        f"'{tensor}' adds {amounts[4]} and {amounts[5]} channels of zeros, which no attribute of "
        f"its module tells"
    )


def _written(fate: Fate, followed: Followed) -> Fate:
    """The part of a fate that a set has in common: who writes it, and what no layer holds."""
    dense = set(followed.dense)
    whole = [(t, a, 0, n) for t, a, _, n in fate if a == _PAD or (t in dense and a == 0)]
    return tuple(sorted(whole))


def _layers(at: Touched, labels: list[int], weights: Sequence[str]) -> tuple[str, ...]:
    """Of the layers with these weights those that write the labels, in the given order."""
    slots = {slot for label in labels for slot in at.places[label]}
    return tuple(w.removesuffix(".weight") for w in weights if (w, 0) in slots)


def _first(at: Touched, labels: list[int], layer: str) -> int:
    return next(label for label in labels if (f"{layer}.weight", 0) in at.places[label])


def _name(layer: str, sets: list[LabelledSet]) -> str:
    taken = {one.coupled.name for one in sets}
    names = (layer, *(f"{layer}:{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _set(at: Touched, labels: list[int], layers: tuple[str, ...], name: str) -> LabelledSet:
    slots: dict[Slot, Numbers] = {}
    for slot in sorted({slot for label in labels for slot in at.places[label] if slot[1] != _PAD}):
        rows = [at.places[label].get(slot, []) for label in labels]
        table = np.full((len(labels), max(map(len, rows))), ABSENT, np.int64)
        for row, found in zip(table, rows, strict=True):
            row[: len(found)] = found
        slots[slot] = table
    numbers: dict[Fate, int] = {}
    classes = [numbers.setdefault(at.fates[label], len(numbers)) for label in labels]
    coupled = CoupledSet(name, layers, len(labels), slots, np.array(classes), 1, name)
    return LabelledSet(coupled, np.array(labels, np.int64))


def _with_rules(one: LabelledSet, sets: list[LabelledSet], followed: Followed) -> LabelledSet:
    """The set with its bundle and the multiple that grouped convolutions and paddings want."""
    own = one.coupled
    multiple = 1
    for weight, groups in followed.groups.items():
        if any((weight, axis) in own.slots for axis in (0, 1)):
            multiple = math.lcm(multiple, groups)
    for front, behind in followed.pads.values():
        first, last = (int(np.isin(part, one.labels).sum()) for part in (front, behind))
        if first or last:
            multiple = math.lcm(multiple, own.channels // math.gcd(own.channels, first, last))
    bundle = _bundle(one, sets, followed)
    coupled = CoupledSet(
        own.name, own.layers, own.channels, own.slots, own.classes, multiple, bundle
    )
    return LabelledSet(coupled, one.labels)


def _bundle(one: LabelledSet, sets: list[LabelledSet], followed: Followed) -> str:
    """The first set that is regrouped together with this one, through others, too."""
    inside = {one.coupled.name}
    labels = one.labels
    while True:
        beside = [r for r in followed.regrouped if np.isin(r, labels).any()]
        union = np.unique(np.concatenate([labels, *beside]))
        found = [s for s in sets if np.isin(s.labels, union).any()]
        if {s.coupled.name for s in found} == inside:
            return next(s.coupled.name for s in sets if s.coupled.name in inside)
        inside = {s.coupled.name for s in found}
        labels = np.concatenate([s.labels for s in found])


def _held_elsewhere(candidate: Candidate, followed: Followed) -> dict[int, str]:
    """Labels of tensors that no edit can narrow: those of two names, or of unknown modules."""
    state = candidate.network.state()
    owners = Counter(map(_address, state.values()))
    module = candidate.network.module()
    found: dict[int, str] = {}
    for (name, _), labels in followed.slots.items():
        reason = ""
        owner = name.rpartition(".")[0]
        if name not in state:
            reason = f"{name} is no parameter or buffer that a checkpoint keeps"
        elif owners[_address(state[name])] > 1:
            reason = _TIED
        elif name in followed.dense and not isinstance(module.get_submodule(owner), LAYERS):
            reason = f"its weight is held by a {type(module.get_submodule(owner)).__name__}"
        if reason:
            found.update(dict.fromkeys(labels.tolist(), reason))
    return found


def _address(array: NDArray[Any]) -> int:
    return array.__array_interface__["data"][0]
