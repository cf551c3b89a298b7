"""Following channels through a net: which indices of which tensors belong together.

The program runs on labels: each layer that writes channels gives each a new number, what treats
every channel alike hands the numbers on, what moves channels moves them, and where two meet (an
addition, a gate, a layer used twice) both become one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import fx
from torch.utils._pytree import tree_map  # pyright: ignore[reportUnknownVariableType]

from compress.channel_labels import Forest, LabelRunner, by_channel, spread, tensors_in
from compress.graph import Graph, TensorId, TensorNode
from compress.pruning.coupled import Numbers, Slot
from compress.pruning.operators import (
    CHANNELWISE,
    ELEMENTWISE,
    MEETINGS,
    MOVES,
    REDUCTIONS,
    channel_padding,
    pads_space,
    reduced_axes,
    regroups,
    sides,
)

INPUT = "it reads the net's input"
OUTPUT = "its outputs are the net's"
_WHOLE = "acts on all channels at once"
_VECTORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, eq=False)
class Followed:
    """What the labels tell, each label by the least of those joined with it.

    slots: by tensor and axis the label at each index (axis 1 of a weight: each input channel).
    dense: the weights on axis 0 whose layer writes channels of its own; `slots` has depthwise ones,
    too, and vectors. groups: of grouped convolutions, by weight. pads: labels of the channels that
    a padding adds before and behind. fixed: labels that must stay, with the reason. regrouped:
    labels that stand together where places decide, which channel goes where.
    """

    slots: Mapping[Slot, Numbers]
    dense: tuple[str, ...]
    groups: Mapping[str, int]
    pads: Mapping[TensorId, tuple[Numbers, Numbers]]
    fixed: Mapping[int, str]
    regrouped: tuple[Numbers, ...]


def follow(graph: Graph) -> Followed:
    """Follow the channels of a net; what cannot be followed is fixed for that reason."""
    follower = _Follower(graph)
    return follower.run()


class _Follower:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._forest = Forest()
        self._slots: dict[Slot, Numbers] = {}
        self._dense: list[str] = []
        self._groups: dict[str, int] = {}
        self._pads: dict[TensorId, tuple[Numbers, Numbers]] = {}
        self._fixed: list[tuple[int, str]] = []
        self._regrouped: list[Numbers] = []

    def run(self) -> Followed:
        LabelRunner(self._graph, self._visit, self._compute).run_labels(self._graph)
        roots = self._forest.roots()
        fixed: dict[int, str] = {}
        for label, reason in self._fixed:
            fixed.setdefault(int(roots[label]), reason)
        return Followed(
            {slot: roots[labels] for slot, labels in self._slots.items()},
            tuple(self._dense),
            self._groups,
            {name: (roots[one], roots[other]) for name, (one, other) in self._pads.items()},
            fixed,
            tuple(np.unique(roots[labels]) for labels in self._regrouped),
        )

    def _visit(self, tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        if tensor.operator == "input":
            value = self._new(tuple(value.shape), INPUT)
        if tensor in self._graph.outputs:
            self._fix(value, OUTPUT)
        return value

    def _compute(
        self, tensor: TensorId, node: fx.Node, args: tuple[Any, ...]
    ) -> torch.Tensor | None:
        known = self._graph.by_id.get(tensor)
        operator, given = tensor.operator, tensors_in(args)
        if not given:
            return None
        if operator in MOVES:
            return self._move(known, node, args)
        if known is None:
            return self._unknown(operator, given, None)
        made = shape = None
        if all(len(one) == 1 for one in given) and known.shape[0] == 1:
            made = self._layer(known, args) if "weight" in known.parameters else None
            if made is None:
                made = self._weightless(known, node, args)
        else:
            shape = _computed_shape(node, args)
        return self._unknown(operator, given, known, shape) if made is None else made

    def _move(self, known: TensorNode | None, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """What moves channels moves labels; what no longer fits them, or never did, fixes them."""
        operator, given = self._graph.ids[node].operator, tensors_in(args)
        if regroups(operator, node, args, None if known is None else known.shape):
            self._regrouped.append(_labels(given[0]))
        if known is None:
            return None
        try:
            return cast("Callable[..., torch.Tensor]", node.target)(*args, **node.kwargs)
        except RuntimeError:
            return self._unknown(operator, given, known)

    def _layer(self, node: TensorNode, args: tuple[Any, ...]) -> torch.Tensor | None:
        """What a layer with a weight does to labels; None for one that is not known."""
        if node.id.operator == "batch_norm":
            labels = self._channels(args[0], 1)
            for role, name in node.parameters.items():
                assert role in _VECTORS
                self._put((name, 0), labels)
            return spread(labels, node.shape)
        if node.id.operator == "linear":
            labels = self._channels(args[0], -1)
            self._put((node.parameters["weight"], 1), labels)
            return spread(self._written(node, node.shape[-1]), node.shape, -1)
        if node.id.operator == "conv2d" and len(node.shape) == 4:
            return self._convolution(node, args)
        return None

    def _convolution(self, node: TensorNode, args: tuple[Any, ...]) -> torch.Tensor:
        labels = self._channels(args[0], 1)
        weight, outside = node.parameters["weight"], node.shape[1]
        groups = int(args[6]) if len(args) > 6 else 1
        if groups > 1 and groups == len(labels):  # depthwise: it writes what it reads
            written = np.repeat(labels, outside // groups)
            self._put((weight, 0), written)
            if "bias" in node.parameters:
                self._put((node.parameters["bias"], 0), written)
            return spread(written, node.shape)
        self._put((weight, 1), labels)
        written = self._written(node, outside)
        if groups > 1:
            self._groups[weight] = groups
            self._regrouped += [np.unique(labels), np.unique(written)]
        return spread(written, node.shape)

    def _written(self, node: TensorNode, channels: int) -> Numbers:
        """The labels of the channels that a layer writes: those of before where it acts again."""
        weight = node.parameters["weight"]
        if weight not in self._dense:
            self._dense.append(weight)
            self._put((weight, 0), self._forest.grow(channels))
        labels = self._slots[weight, 0]
        if "bias" in node.parameters:
            self._put((node.parameters["bias"], 0), labels)
        return labels

    def _weightless(
        self, node: TensorNode, fx_node: fx.Node, args: tuple[Any, ...]
    ) -> torch.Tensor | None:
        operator, given = node.id.operator, tensors_in(args)
        value = given[0]
        if operator in ELEMENTWISE and len(given) == 1 and value.shape[1:] == node.shape[1:]:
            return value if self._constants(fx_node, args, node.shape, value) else None
        if operator in MEETINGS and len(given) == 2:
            return self._meeting(given[0], given[1], node.shape)
        if operator in REDUCTIONS:
            axes = reduced_axes(fx_node, args)
            kept = _first(value, axes) if axes is not None else None
            return None if kept is None else kept.reshape(node.shape)
        if operator == "pad" and channel_padding(args) is not None:
            return self._padded(node, args)
        labels = by_channel(value)
        if labels is not None and (operator in CHANNELWISE or pads_space(operator, args)):
            return spread(labels, node.shape)
        return None

    def _meeting(
        self, one: torch.Tensor, other: torch.Tensor, shape: tuple[int, ...]
    ) -> torch.Tensor | None:
        """Two tensors in one, place by place; one channel against many is fixed, not joined."""
        if one.dim() != other.dim() or one.dim() < 2:
            return None
        if one.shape[1] != other.shape[1]:
            single, many = (one, other) if one.shape[1] == 1 else (other, one)
            self._fix(single, "it acts on every channel of another tensor")
            return many.expand(1, *shape[1:]).contiguous()
        one, other = torch.broadcast_tensors(one, other)
        self._forest.join(one, other)
        return one.contiguous()

    def _constants(
        self, node: fx.Node, args: tuple[Any, ...], shape: tuple[int, ...], value: torch.Tensor
    ) -> bool:
        """Note parameters and buffers of one value a channel; False for other shapes."""
        for name, held in zip(node.args, args, strict=False):
            if not isinstance(held, torch.Tensor) or held.dtype == torch.float64:
                continue
            axis = held.dim() - len(shape) + 1
            if held.numel() == 1 or axis < 0 or held.shape[axis] == 1:
                continue
            labels = by_channel(value)
            if not isinstance(name, fx.Node) or name.op != "get_attr" or labels is None:
                return False
            if held.numel() != len(labels):
                return False
            self._put((str(name.target), axis), labels)
        return True

    def _padded(self, node: TensorNode, args: tuple[Any, ...]) -> torch.Tensor:
        """New channels before and behind; height and width may be padded, too."""
        labels = self._channels(args[0], 1)
        before, behind = sides(args)
        front, back = self._forest.grow(before), self._forest.grow(behind)
        self._pads[node.id] = (front, back)
        return spread(np.concatenate((front, labels, back)), node.shape)

    def _channels(self, value: torch.Tensor, axis: int) -> Numbers:
        """The label of each channel along `axis`; several in a channel are joined."""
        flat = value.movedim(axis, 1)[0]
        flat = flat.reshape(len(flat), -1)
        if not bool((flat == flat[:, :1]).all()):
            self._forest.join(flat[:, :1].expand_as(flat).contiguous(), flat)
        return flat[:, 0].to(torch.int64).numpy()

    def _put(self, slot: Slot, labels: Numbers) -> None:
        """Note the labels of a tensor's axis; a tensor that acts again joins them."""
        known = self._slots.setdefault(slot, labels)
        if known is not labels:
            pair = [torch.from_numpy(part.astype(np.float64)) for part in (known, labels)]
            self._forest.join(pair[0], pair[1])

    def _unknown(
        self,
        operator: str,
        given: list[torch.Tensor],
        known: TensorNode | None,
        shape: tuple[int, ...] | None = None,
    ) -> torch.Tensor | None:
        reason = f"{operator} {_WHOLE}"
        for one in given:
            self._fix(one, reason)
        if known is None:
            return None
        new = self._new(shape or known.shape, reason)
        if operator in ("conv2d", "linear") and "weight" in known.parameters:
            outside = known.shape[1 if operator == "conv2d" else -1]
            self._put((known.parameters["weight"], 0), np.full(outside, int(new.flatten()[0])))
        return new

    def _new(self, shape: tuple[int, ...], reason: str) -> torch.Tensor:
        """One label for a whole tensor, which is fixed."""
        label = int(self._forest.grow(1)[0])
        self._fixed.append((label, reason))
        return torch.full(shape, float(label), dtype=torch.float64)

    def _fix(self, value: torch.Tensor, reason: str) -> None:
        self._fixed += [(int(n), reason) for n in _labels(value)]


def _computed_shape(node: fx.Node, args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Where the net folds something into its batch the program alone knows how much."""

    def plain(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) else value

    operator = cast("Callable[..., torch.Tensor]", node.target)
    return tuple(operator(*tree_map(plain, args), **node.kwargs).shape)


def _labels(value: torch.Tensor) -> Numbers:
    return value.unique().to(torch.int64).numpy()


def _first(value: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor | None:
    """The labels along `axes` where they are all the same there; None where they differ."""
    kept = value
    for axis in axes:
        kept = kept.narrow(axis, 0, 1)
    return kept if bool((value == kept).all()) else None
