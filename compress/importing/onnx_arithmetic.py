"""Operators that compute element by element, spelled as quantization and the writers know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from compress.errors import ModelError
from compress.importing.building import NetBuilder, Value
from compress.importing.onnx_operator import Importer, Operator, checked_axis, operand


def clip(net: NetBuilder, op: Operator) -> Value:
    """Limits as attributes (before opset 11) or as inputs; ReLU and ReLU6 by their own names."""
    ends: list[float] = []
    for position, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = op.optional(position)
        ends.append(float(op.get(name, default) if given is None else given.reshape(-1)[0]))
    low, high = (end if abs(end) < 3.4e38 else np.copysign(np.inf, end) for end in ends)
    source = op.value()
    if low == 0 and high == np.inf:
        return net.call(F.relu, source)
    if (low, high) == (0, 6):
        return net.call(F.relu6, source)
    if np.isfinite(low) and np.isfinite(high):
        return net.call(F.hardtanh, source, float(low), float(high))
    bounds = {"min": float(low), "max": float(high)}
    finite = {name: end for name, end in bounds.items() if np.isfinite(end)}
    return net.call(torch.clamp, source, **finite) if finite else source


def multiply(net: NetBuilder, op: Operator) -> Value:
    """A product; x * hardsigmoid(x) is the h-swish that it came from."""
    left, right = operand(net, op, 0), operand(net, op, 1)
    for gate, other in ((left, right), (right, left)):
        if not isinstance(gate, Value):
            continue
        if isinstance(other, Value) and _reads(gate.node, F.hardsigmoid) is other.node:
            return net.call(F.hardswish, other)
        if isinstance(other, float) and abs(other * 6 - 1) < 1e-6:
            found = _hard_gate(net, gate)
            if found is not None:
                return found
    return net.call(torch.mul, left, right)


def divide(net: NetBuilder, op: Operator) -> Value:
    left, right = operand(net, op, 0), operand(net, op, 1)
    if right == 6.0 and isinstance(left, Value):
        found = _hard_gate(net, left)
        if found is not None:
            return found
    return net.call(torch.div, left, right)


def subtract(net: NetBuilder, op: Operator) -> Value:
    return net.call(torch.sub, operand(net, op, 0), operand(net, op, 1))


def hard_sigmoid(net: NetBuilder, op: Operator) -> Value:
    """max(0, min(1, alpha x + beta)): torch's own where alpha is 1/6 and beta 1/2."""
    alpha, beta = float(op.get("alpha", 0.2)), float(op.get("beta", 0.5))
    if abs(alpha * 6 - 1) < 1e-6 and beta == 0.5:
        return net.call(F.hardsigmoid, op.value())
    line = net.call(torch.add, net.call(torch.mul, op.value(), alpha), beta)
    return net.call(F.hardtanh, line, 0.0, 1.0)


def softmax(net: NetBuilder, op: Operator) -> Value:
    """Before opset 13 over all axes from `axis` on, which must be one."""
    source = op.value()
    rank = len(source.shape)
    axis = op.axis(-1 if op.opset >= 13 else 1, rank)
    if op.opset < 13 and any(n != 1 for n in source.shape[axis + 1 :]):
        raise ModelError(f"it is taken over all axes from {axis} on of {source.shape}")
    if axis == source.batch_axis:
        raise ModelError("it is taken over the pictures of a batch")
    function = F.softmax if op.kind == "Softmax" else F.log_softmax
    return net.call(function, source, dim=checked_axis(axis, rank))


def total(net: NetBuilder, op: Operator) -> Value:
    """The sum of any number of tensors."""
    found = operand(net, op, 0)
    for position in range(1, len(op.inputs)):
        found = net.call(torch.add, found, operand(net, op, position))
    if not isinstance(found, Value):
        raise ModelError("it has no input that depends on the picture")
    return found


def _hard_gate(net: NetBuilder, scaled: Value) -> Value | None:
    """What a sixth of `scaled` is: hardsigmoid(x) of relu6(x + 3), h-swish of x * relu6(x + 3)."""
    inner = _shifted(scaled.node)
    if inner is not None:
        return net.call(F.hardsigmoid, _same_shape(inner, scaled))
    if scaled.node.target is torch.mul:
        left, right = scaled.node.args
        for gate, other in ((left, right), (right, left)):
            if isinstance(gate, fx.Node) and _shifted(gate) is other is not None:
                return net.call(F.hardswish, _same_shape(other, scaled))
    return None


def _shifted(node: fx.Node) -> fx.Node | None:
    """x, where `node` is relu6(x + 3)."""
    source = _reads(node, F.relu6)
    if source is None or source.target is not torch.add:
        return None
    left, right = source.args
    inner = left if right == 3.0 else right if left == 3.0 else None
    return inner if isinstance(inner, fx.Node) else None


def _reads(node: fx.Node, function: Callable[..., Any]) -> fx.Node | None:
    """What `node` is `function` of."""
    first = node.args[0] if node.target is function and node.args else None
    return first if isinstance(first, fx.Node) else None


def _same_shape(node: Any, like: Value) -> Value:
    return Value(node, like.shape, like.doubled)


def _plain(function: Callable[..., Any]) -> Importer:
    def importer(net: NetBuilder, op: Operator) -> Value:
        return net.call(function, op.value())

    return importer


def _leaky(net: NetBuilder, op: Operator) -> Value:
    return net.call(F.leaky_relu, op.value(), float(op.get("alpha", 0.01)))


def _elu(net: NetBuilder, op: Operator) -> Value:
    return net.call(F.elu, op.value(), float(op.get("alpha", 1.0)))


def _gelu(net: NetBuilder, op: Operator) -> Value:
    return net.call(F.gelu, op.value(), approximate=str(op.get("approximate", "none")))


ARITHMETIC: Mapping[str, Importer] = {
    "Clip": clip,
    "Div": divide,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "LeakyRelu": _leaky,
    "LogSoftmax": softmax,
    "Mish": _plain(F.mish),
    "Mul": multiply,
    "Relu": _plain(F.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Softmax": softmax,
    "Softplus": _plain(F.softplus),
    "Sub": subtract,
    "Sum": total,
    "Tanh": _plain(torch.tanh),
}
