"""What the operators of a program do to channels, by the names that torch.export gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx

# Each value by itself: a channel that is taken out before is missing behind, nothing else changes.
ELEMENTWISE = frozenset(
    {"relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "elu"}
    | {"leaky_relu", "selu", "celu", "tanh", "softplus", "mish", "threshold", "log_sigmoid"}
    | {"hardshrink", "softshrink", "clamp", "clamp_min", "clamp_max", "clip", "abs", "neg", "exp"}
    | {"sqrt", "rsqrt", "square", "pow", "log", "reciprocal", "erf", "round", "floor", "ceil"}
    | {"add", "sub", "mul", "div", "rsub", "maximum", "minimum"}
)
# Two tensors, place by place.
MEETINGS = frozenset({"add", "sub", "mul", "div", "maximum", "minimum"})
# Each channel by itself, over height and width.
CHANNELWISE = frozenset(
    {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
    | {"upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"}
)
REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})
_SPLITS = frozenset({"chunk", "split", "split_with_sizes", "slice", "select", "unbind"})
_RESHAPES = frozenset({"view", "reshape", "unflatten", "_unsafe_view"})
MOVES = (
    _SPLITS
    | _RESHAPES
    | frozenset({"cat", "concat", "stack", "flatten", "transpose", "permute", "squeeze"})
    | frozenset({"unsqueeze", "getitem", "expand", "pixel_shuffle", "pixel_unshuffle", "flip"})
    | frozenset({"channel_shuffle", "index_select"})
)


def regroups(
    operator: str, node: fx.Node, args: Sequence[Any], shape: tuple[int, ...] | None
) -> bool:
    """Whether a move decides by place which channel goes where, so that widths must fit it."""
    value = args[0]
    if not isinstance(value, torch.Tensor):
        return False
    if operator in _SPLITS:
        axis = _axis(operator, node, args) % value.dim()
        whole = operator == "slice" and shape is not None and shape[axis] == value.shape[axis]
        return not whole and bool((value != value.narrow(axis, 0, 1)).any())
    if operator in _RESHAPES:
        return shape is not None and len(shape) > value.dim()
    return operator in ("pixel_shuffle", "channel_shuffle", "index_select", "flip")


def _axis(operator: str, node: fx.Node, args: Sequence[Any]) -> int:
    """The axis that a split is along."""
    place = 1 if operator in ("slice", "select", "unbind") else 2
    given = args[place] if len(args) > place else node.kwargs.get("dim", 0)
    return cast(int, given)


def reduced_axes(node: fx.Node, args: Sequence[Any]) -> tuple[int, ...] | None:
    """The axes that a mean or its like is over; None where it is over all."""
    given = args[1] if len(args) > 1 else node.kwargs.get("dim")
    if isinstance(given, int):
        given = [given]
    if not given:
        return None
    return tuple(axis % args[0].dim() for axis in cast("list[int]", given))


def sides(args: Sequence[Any]) -> tuple[int, int]:
    """How many channels a padding of (N, C, H, W) adds before and behind."""
    amounts = cast("list[int]", args[1])
    return (int(amounts[4]), int(amounts[5])) if len(amounts) > 5 else (0, 0)


def channel_padding(args: Sequence[Any]) -> tuple[int, int] | None:
    """`sides` of a padding that adds channels of one constant; None for any other."""
    constant = len(args) < 3 or args[2] == "constant"
    if not constant or args[0].dim() != 4 or len(args[1]) > 6 or min(args[1]) < 0:
        return None
    found = sides(args)
    return found if any(found) else None


def pads_space(operator: str, args: Sequence[Any]) -> bool:
    """True for a padding of height and width alone."""
    return operator == "pad" and args[0].dim() == 4 and (len(args[1]) <= 4 or not any(sides(args)))
