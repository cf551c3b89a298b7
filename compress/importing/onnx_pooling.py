"""Pools and means over a picture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from compress.errors import ModelError
from compress.importing.building import NetBuilder, Value
from compress.importing.onnx_operator import Importer, Operator, checked_axis
from compress.importing.onnx_window import Window, window_of


def max_pool(net: NetBuilder, op: Operator) -> Value:
    """Uneven padding is spelled so that nothing is padded with minus infinity, which has no grid.

    Where rounding the size up gives the same windows, that says it; else a wider even padding,
    whose surplus windows are cut off.
    """
    source = op.value()
    window = window_of(op, source, op.wholes("kernel_shape"))
    ceil = bool(op.whole("ceil_mode", 0))
    if not window.even:
        return _uneven_max_pool(net, source, window, ceil)
    return _max_pool(net, source, window, window.before, ceil)


def _uneven_max_pool(net: NetBuilder, source: Value, window: Window, ceil: bool) -> Value:
    size = source.shape[2], source.shape[3]
    rounded = _with_ends(window, window.before, window.before)
    steps = window.steps(size, ceil)
    if rounded.steps(size, True) == steps:
        return _max_pool(net, source, window, window.before, True)
    skipped = tuple(
        -(-max(0, window.after[i] - window.before[i]) // window.stride[i]) for i in (0, 1)
    )
    wide = tuple(window.before[i] + skipped[i] * window.stride[i] for i in (0, 1))
    even = _with_ends(window, (wide[0], wide[1]), (wide[0], wide[1]))
    fits = all(2 * wide[i] <= window.kernel[i] for i in (0, 1))
    found = even.steps(size, ceil)
    if ceil or not fits or any(found[i] - skipped[i] < steps[i] for i in (0, 1)):
        raise ModelError(f"its padding {window.before}, {window.after} is not supported")
    pooled = _max_pool(net, source, window, even.before, False)
    for i in (0, 1):
        if found[i] != steps[i]:
            end = skipped[i] + steps[i]
            pooled = net.call(torch.ops.aten.slice.Tensor, pooled, 2 + i, skipped[i], end)
    return pooled


def _max_pool(
    net: NetBuilder, source: Value, window: Window, padding: tuple[int, int], ceil: bool
) -> Value:
    return net.call(
        F.max_pool2d,
        source,
        window.kernel,
        stride=window.stride,
        padding=padding,
        dilation=window.dilation,
        ceil_mode=ceil,
    )


def average_pool(net: NetBuilder, op: Operator) -> Value:
    """One window over the whole picture is the mean; uneven padding that counts is a pad."""
    source = op.value()
    window = window_of(op, source, op.wholes("kernel_shape"))
    ceil, counted = bool(op.whole("ceil_mode", 0)), bool(op.whole("count_include_pad", 0))
    if window.kernel == source.shape[2:] and not any(window.pads):
        return net.call(F.adaptive_avg_pool2d, source, 1)
    if window.dilation != (1, 1):
        raise ModelError(f"its dilations are {window.dilation}; 1 is supported")
    before = window.before
    if not window.even:
        size = source.shape[2], source.shape[3]
        rounded = _with_ends(window, before, before)
        if counted and not ceil:
            source, before = net.call(F.pad, source, window.pads), (0, 0)
        elif not counted and rounded.steps(size, True) == window.steps(size, ceil):
            ceil = True
        else:
            raise ModelError(f"its padding {window.before}, {window.after} is not supported")
    return net.call(
        F.avg_pool2d,
        source,
        window.kernel,
        stride=window.stride,
        padding=before,
        ceil_mode=ceil,
        count_include_pad=counted,
    )


def _with_ends(window: Window, before: tuple[int, int], after: tuple[int, int]) -> Window:
    return Window(window.kernel, window.stride, window.dilation, before, after)


def global_average(net: NetBuilder, op: Operator) -> Value:
    return net.call(F.adaptive_avg_pool2d, op.value(), 1)


def global_max(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    return net.call(F.max_pool2d, source, tuple(source.shape[2:]))


def reduce_mean(net: NetBuilder, op: Operator) -> Value:
    source = op.value()
    rank = len(source.shape)
    axes = op.listed("axes", 1)
    if not axes and op.whole("noop_with_empty_axes", 0):
        return source
    wanted = sorted({checked_axis(axis, rank) for axis in axes or range(rank)})
    return net.call(torch.mean, source, wanted, keepdim=bool(op.whole("keepdims", 1)))


def local_response(net: NetBuilder, op: Operator) -> Value:
    """AlexNet's normalisation over neighbouring channels."""
    return net.call(
        F.local_response_norm,
        op.value(),
        op.whole("size", 1),
        alpha=float(op.get("alpha", 1e-4)),
        beta=float(op.get("beta", 0.75)),
        k=float(op.get("bias", 1.0)),
    )


POOLS: Mapping[str, Importer] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
    "LRN": local_response,
    "MaxPool": max_pool,
    "ReduceMean": reduce_mean,
}
