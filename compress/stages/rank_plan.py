"""Which form each layer takes: at a rank, at an energy, or within a budget of the whole net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import RangeError
from compress.factoring.choosing import Menu, choose_forms, least
from compress.factoring.forms import Form, Forms, forms_of
from compress.measure import count
from compress.network import LayerInfo
from compress.parameter_uses import serving_elsewhere
from compress.split_costs import (
    Costs,
    dense_costs,
    form_costs,
    places_of,
    saves,
    split_costs,
)
from compress.split_layers import SPLITS, full_rank
from compress.stages.layers import settings_by_layer
from compress.stages.weighing import Seen

# Moments of more inputs would not fit in memory: n x n numbers, several times.
_MOST_INPUTS = 10_000


@dataclass(frozen=True)
class Planned:
    """A layer and the form it takes; lossless: at full rank."""

    layer: LayerInfo
    form: Form
    lossless: bool


@dataclass(frozen=True)
class Skip:
    """A layer that stays as it is, and why."""

    layer: LayerInfo
    reason: str


@dataclass(frozen=True, eq=False)
class _Menu:
    """A layer's forms that may be taken, their costs, and what the layer costs as it is."""

    layer: LayerInfo
    forms: Forms
    total: float  # what losing the whole weight would cost
    costs: Costs
    dense: Costs


class RankPlan:
    """The layers of a candidate that can be split, and the choice of their forms."""

    def __init__(
        self,
        candidate: Candidate,
        layers: Sequence[LayerInfo],
        split: str | tuple[tuple[str, str], ...],
        round_to: int,
        even_if_larger: bool,
    ) -> None:
        self._candidate = candidate
        self._round_to = round_to
        self._even = even_if_larger
        self._module = candidate.network.module()
        self._places = places_of(candidate.network, layers)
        self._splits = settings_by_layer(layers, split)
        elsewhere = serving_elsewhere(candidate.network)
        self.layers: list[LayerInfo] = []
        self._skips: list[Skip] = []
        for layer in layers:
            reason = self._unfit(layer, layer.name in elsewhere)
            if reason:
                self._skips.append(Skip(layer, reason))
            else:
                self.layers.append(layer)

    def weighed(self, weigh: str) -> list[LayerInfo]:
        """The layers whose inputs are to be looked at."""
        return [la for la in self.layers if weigh != "weights" and _inputs(la) <= _MOST_INPUTS]

    def choose(self, seen: Seen, limit: tuple[str, float]) -> list[Planned | Skip]:
        """Each layer's form or why it has none; limit: its name in FactorizeSVD, and its value."""
        done: list[Planned | Skip] = list(self._skips)
        name, value = limit
        menus: list[_Menu] = []
        for layer in self.layers:
            if seen.weigh != "weights" and _inputs(layer) > _MOST_INPUTS:
                many = f"its {_inputs(layer):,} inputs are too many to weigh"
                done.append(Skip(layer, f"{many}; weigh='weights' takes it"))
            elif seen.weigh != "weights" and layer.name not in seen.moments:
                done.append(Skip(layer, "no answer depends on it"))
            elif name == "rank":
                done.append(self._fixed(layer, int(value)))
            else:
                menus.append(self._menu(layer, seen))
        if name == "energy":
            done += [self._by_energy(menu, value) for menu in menus]
        elif name != "rank":
            done += self._by_budget(menus, seen, name, value)
        return done

    def _unfit(self, layer: LayerInfo, elsewhere: bool) -> str:
        """Why the layer cannot be split; '' where it can."""
        if layer.groups > 1:
            depthwise = layer.shape[1] == 1
            return "a depthwise convolution" if depthwise else "a grouped convolution"
        if elsewhere:
            return "its weight is another layer's, too, or is read more than once"
        if layer.name not in self._places:
            return "the net never uses it"
        if layer.name not in self._splits:
            return "no pattern of split fits it"
        if not self._even and not self._worthwhile(layer):
            times = " x ".join(map(str, layer.shape))
            return f"no rank saves anything at {times}"
        return ""

    def _worthwhile(self, layer: LayerInfo) -> bool:
        for split in self._ways(layer):
            ranks = np.array([(1, 1 if split == "tucker" else 0)], np.int64)
            cheapest = split_costs(layer.shape, split, ranks, self._places[layer.name])
            if saves(cheapest, dense_costs(layer.shape, self._places[layer.name]))[0]:
                return True
        return False

    def _ways(self, layer: LayerInfo) -> tuple[str, ...]:
        """The splits that the layer may take."""
        asked = self._splits[layer.name]
        if np.prod(layer.shape[2:]) == 1:
            return ("channel",)
        return SPLITS if asked == "auto" else (asked,)

    def _fixed(self, layer: LayerInfo, rank: int) -> Planned | Skip:
        split = self._ways(layer)[0]
        most, most_in = full_rank(self._module.get_submodule(layer.name), split)
        wanted = -(-rank // self._round_to) * self._round_to
        form = Form(split, min(wanted, most), min(wanted, most_in))
        ranks = np.array([(form.rank, form.rank_in)], np.int64)
        places = self._places[layer.name]
        costs = split_costs(layer.shape, split, ranks, places)
        dense = dense_costs(layer.shape, places)
        if not self._even and (wanted > most or not saves(costs, dense)[0]):
            largest = self._largest(layer, split, most)
            times = " x ".join(map(str, layer.shape))
            return Skip(
                layer, f"rank {wanted} saves nothing at {times} by {split}: at most {largest} does"
            )
        return Planned(layer, form, (form.rank, form.rank_in) == (most, most_in))

    def _largest(self, layer: LayerInfo, split: str, most: int) -> int:
        ranks = np.array([(r, r) for r in range(1, most + 1)], np.int64)
        places = self._places[layer.name]
        costs = split_costs(layer.shape, split, ranks, places)
        return int(saves(costs, dense_costs(layer.shape, places)).sum())

    def _menu(self, layer: LayerInfo, seen: Seen) -> _Menu:
        """All forms that may be taken; none of them where no rank is a multiple that saves."""
        weight = self._candidate.network.parameters()[layer.weight].astype(np.float64)
        measure, places = seen.measure(layer), self._places[layer.name]
        splits = self._ways(layer)
        forms = forms_of(weight, measure, splits, self._inner(layer))
        costs = form_costs(layer.shape, forms.splits, forms.ranks, places)
        dense = dense_costs(layer.shape, places)
        whole = forms.whole()
        kept = (forms.ranks % self._round_to == 0).all(axis=1)
        kept = kept | whole if self._even else kept & saves(costs, dense)
        total = measure.cost(weight.reshape(len(weight), -1))
        chosen = Costs(costs.parameters[kept], costs.macs[kept])
        return _Menu(layer, forms.only(kept), total, chosen, dense)

    def _inner(self, layer: LayerInfo) -> NDArray[np.int64] | None:
        """The inner inputs to offer, where they must be multiples of something."""
        if self._round_to == 1 or len(layer.shape) < 3:
            return None
        most = min(layer.shape[1], layer.shape[0] * int(np.prod(layer.shape[2:])))
        steps = np.arange(self._round_to, most + 1, self._round_to)
        if len(steps) > 16:
            steps = steps[np.unique(np.linspace(0, len(steps) - 1, 16).round().astype(np.int64))]
        return np.unique(np.append(steps, most)).astype(np.int64)

    def _by_energy(self, menu: _Menu, energy: float) -> Planned | Skip:
        """The form of the fewest weights that keeps enough."""
        noise = max(menu.layer.shape) * float(np.finfo(np.float64).eps) * 16
        good = menu.forms.errors <= max(1 - energy, noise) * menu.total
        if not good.any():
            return Skip(menu.layer, f"no rank that saves anything keeps {energy:g} of the energy")
        return self._planned(menu, int(np.where(good, menu.costs.parameters, np.inf).argmin()))

    def _by_budget(
        self, menus: Sequence[_Menu], seen: Seen, name: str, fraction: float
    ) -> Iterator[Planned | Skip]:
        counted = count(self._candidate.spec, self._module)
        macs = name == "macs"
        buffers = 0
        if name == "bytes":
            state = self._candidate.network.state().items()
            own = self._candidate.network.parameters()
            buffers = sum(v.size for n, v in state if n not in own and v.dtype.kind == "f")
        whole = counted.macs if macs else counted.parameters + buffers
        tables = [_table(menu, seen, macs) for menu in menus]
        fixed = whole - sum(float(table.costs[0]) for table in tables)
        nearest = (fixed + least(tables)) / whole
        if nearest > fraction:
            raise RangeError(
                f"FactorizeSVD({name}={fraction:g}): the layers that can be factorized allow "
                f"{np.ceil(nearest * 1e4) / 1e4:.4f} and more; ask for that, or let more layers in"
            )
        chosen = choose_forms(tables, fraction * whole - fixed)
        for menu, form in zip(menus, chosen, strict=True):
            if form == 0:
                alone = "it is worth more whole than it would save at this budget"
                none = "no rank that is a multiple of round_to saves anything"
                yield Skip(menu.layer, alone if menu.forms.splits else none)
            else:
                yield self._planned(menu, form - 1)

    def _planned(self, menu: _Menu, number: int) -> Planned:
        form = menu.forms.at(number)
        module = self._module.get_submodule(menu.layer.name)
        return Planned(menu.layer, form, (form.rank, form.rank_in) == full_rank(module, form.split))


def _inputs(layer: LayerInfo) -> int:
    return int(np.prod(layer.shape[1:]))


def _table(menu: _Menu, seen: Seen, macs: bool) -> Menu:
    """The layer as it is, then its forms."""
    own, dense = (c.macs if macs else c.parameters for c in (menu.costs, menu.dense))
    errors = seen.errors(menu.forms.errors, menu.total)
    return Menu(np.append(dense, own), np.append(0.0, errors))
