"""What each layer of a net loses in int8, measured by quantizing it alone.

The loss is the divergence of the answers from the float net's (Nagel et al. 2021, arXiv:2106.08295,
section 3.7, quantize one layer at a time to find those that hurt).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compress.answer_loss import AnswerLoss, Noise
from compress.candidate import Candidate
from compress.forked_runs import Change, answers
from compress.graph import Graph, TensorId
from compress.measure import count
from compress.network import blocks
from compress.placement import ACTIVATIONS, SAME_GRID
from compress.simulate import on_grid

FloatArray = NDArray[np.float32]
# Few at a time: the float net's tensors of a block are kept to be compared with.
_BLOCK = 8
# Operators whose output holds their inputs' values: they round nothing that is not rounded.
_MOVES = SAME_GRID - {"avg_pool2d"}


@dataclass(frozen=True)
class LayerLoss:
    """One layer, or one operator without weights whose output has a grid.

    SQNR in dB, None where nothing is rounded: of its weights; of its output by the grid alone; of
    its output in the int8 net, where the layers before it err too. Losses in nats a picture, from
    the float net's answers: with its weights alone quantized (`weights_kl`), its output alone
    (`output_kl`), and both (`alone_kl`; `alone_db` is the SQNR of the answers then).
    """

    layer: str
    weights: int
    macs: int
    weight_db: float | None
    output_db: float | None
    net_db: float | None
    weights_kl: float
    output_kl: float
    alone_kl: float
    alone_db: float | None


@dataclass(frozen=True, eq=False)
class Place:
    """Where a layer's rounding happens: the parameters and the tensors that are its own."""

    name: str
    parameters: tuple[str, ...]
    tensors: tuple[TensorId, ...]


def places(int8: Candidate) -> tuple[Place, ...]:
    """Every layer that the net uses, then every other operator whose output gets a grid.

    A layer's output is that of the activation function behind it where the two fuse. Operators that
    only move values round nothing.
    """
    graph = int8.network.graph
    outputs: dict[str, list[TensorId]] = {}
    for node in graph.nodes:
        if "weight" in node.parameters and node.id.operator != "batch_norm":
            own = outputs.setdefault(node.parameters["weight"], [])
            own += [t for t in _output(graph, node.id) if t in int8.activations]
    found = [
        Place(la.name, tuple(p for p in (la.weight, la.bias) if p), tuple(outputs[la.weight]))
        for la in int8.network.layers()
        if la.weight in outputs
    ]
    taken = {tensor for place in found for tensor in place.tensors}
    rest = [t for t in int8.activations if t not in taken and t.operator not in _MOVES]
    return (*found, *(Place(str(tensor), (), (tensor,)) for tensor in rest))


def _output(graph: Graph, tensor: TensorId) -> tuple[TensorId, ...]:
    reader = graph.feeds_only(tensor)
    fused = reader is not None and reader.id.operator in ACTIVATIONS
    return (tensor, reader.id) if reader is not None and fused else (tensor,)


class Losses:
    """Losses of a float net's layers on `judging`, float32 (N, C, H, W)."""

    def __init__(self, candidate: Candidate, judging: FloatArray) -> None:
        dynamic = candidate.network.graph.dynamic_batch
        self._candidate, self._judging = candidate, judging
        self._size = _BLOCK if dynamic else 1
        graph = candidate.network.graph
        self._wanted = [answers(graph, {}, (), block)[0] for block in self._blocks()]

    def rows(self, int8: Candidate) -> tuple[AnswerLoss, tuple[LayerLoss, ...]]:
        """(what the whole int8 net loses, what each of its layers does), the worst layer first."""
        known = places(int8)
        changes = [c for place in known for c in _parts(place, self._candidate, int8)]
        losses, whole = [AnswerLoss() for _ in changes], AnswerLoss()
        noise = _TensorNoise(int8, known)
        for block, wanted in zip(self._blocks(), self._wanted, strict=True):
            second = block.clone()
            _, given = answers(self._candidate.network.graph, {}, changes, block, noise.keep)
            _add(losses, wanted, given)
            graph = int8.network.graph
            whole.add(wanted, answers(graph, int8.activations, (), second, noise.compare)[0])
        counted = count(self._candidate.spec, self._candidate.network.module()).layers
        macs = {layer.name: layer.macs for layer in counted}
        rows = [
            self._row(place, (losses[3 * i : 3 * i + 3], int8, noise), macs.get(place.name, 0))
            for i, place in enumerate(known)
        ]
        return whole, tuple(sorted(rows, key=lambda row: -row.alone_kl))

    def other(
        self, base: Candidate, int8: Candidate, layers: Collection[str]
    ) -> tuple[dict[str, float], AnswerLoss]:
        """(nats lost by each of `layers` alone in another form, what the whole net loses in it).

        base: the net in float, prepared otherwise; int8: its integer form.
        """
        known = [place for place in places(int8) if place.name in layers]
        changes = [_parts(place, base, int8)[2] for place in known]
        losses, whole = [AnswerLoss() for _ in changes], AnswerLoss()
        for block, wanted in zip(self._blocks(), self._wanted, strict=True):
            second = block.clone()
            _add(losses, wanted, answers(base.network.graph, {}, changes, block)[1])
            whole.add(wanted, answers(int8.network.graph, int8.activations, (), second)[0])
        pairs = zip(known, losses, strict=True)
        return {place.name: loss.divergence for place, loss in pairs}, whole

    def _blocks(self) -> Iterator[torch.Tensor]:
        return blocks(self._judging, self._size)

    def _row(
        self, place: Place, found: tuple[list[AnswerLoss], Candidate, _TensorNoise], macs: int
    ) -> LayerLoss:
        (weights, output, both), int8, noise = found
        own, theirs = self._candidate.network.parameters(), int8.network.parameters()
        rounded = Noise()
        names = [name for name in place.parameters[:1] if name in own]
        for name in names:
            rounded.add(own[name], theirs[name])
        last = place.tensors[-1] if place.tensors else None
        return LayerLoss(
            layer=place.name,
            weights=sum(own[name].size for name in names),
            macs=macs,
            weight_db=rounded.sqnr_db,
            output_db=None if last is None else noise.alone[last].sqnr_db,
            net_db=None if last is None else noise.net[last].sqnr_db,
            weights_kl=weights.divergence,
            output_kl=output.divergence,
            alone_kl=both.divergence,
            alone_db=both.sqnr_db,
        )


def _add(losses: Sequence[AnswerLoss], wanted: FloatArray, given: Sequence[FloatArray]) -> None:
    for loss, answer in zip(losses, given, strict=True):
        loss.add(wanted, answer)


def _parts(place: Place, base: Candidate, int8: Candidate) -> tuple[Change, Change, Change]:
    """Changes of `base` to what `int8` has: a layer's weights and bias, its output's grid, both."""
    own, theirs = base.network.parameters(), int8.network.parameters()
    values = {
        name: theirs[name]
        for name in place.parameters
        if name in theirs and not np.array_equal(theirs[name], own[name])
    }
    grids = {t: int8.activations[t] for t in place.tensors if t in int8.activations}
    return Change(values), Change(grids=grids), Change(values, grids)


class _TensorNoise:
    """What each layer's output loses: by its grid alone, and in the int8 net."""

    def __init__(self, int8: Candidate, known: Sequence[Place]) -> None:
        self._grids = int8.activations
        tensors = {tensor for place in known for tensor in place.tensors}
        self.alone = {tensor: Noise() for tensor in tensors}
        self.net = {tensor: Noise() for tensor in tensors}
        self._kept: dict[TensorId, FloatArray] = {}

    def keep(self, tensor: TensorId, value: torch.Tensor) -> None:
        """A tensor of the float net, kept until the int8 net has it, too."""
        if tensor in self.alone:
            # Copied: an operator behind may work in place.
            self._kept[tensor] = value.numpy().copy()
            self.alone[tensor].add(self._kept[tensor], self._rounded(tensor, value))

    def compare(self, tensor: TensorId, value: torch.Tensor) -> None:
        """The same tensor of the int8 net, for the same pictures."""
        if tensor in self.net:
            self.net[tensor].add(self._kept.pop(tensor), self._rounded(tensor, value))

    def _rounded(self, tensor: TensorId, value: torch.Tensor) -> FloatArray:
        return on_grid(value, self._grids[tensor]).numpy()
