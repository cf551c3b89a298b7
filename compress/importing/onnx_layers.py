"""Operators with weights, as torch's own layers: Conv, Gemm, MatMul, BatchNormalization, PRelu."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import skip_init

from compress.errors import ModelError
from compress.importing.building import Array, Constant, NetBuilder, Value, fill
from compress.importing.names import layer_name
from compress.importing.onnx_operator import Importer, Operator, operand
from compress.importing.onnx_window import window_of


def conv(net: NetBuilder, op: Operator) -> Value:
    """Uneven padding becomes an operator of its own before the layer."""
    source, weight = op.value(), _real(op.constant(1))
    if weight.ndim != 4:
        raise ModelError(f"its weight has shape {weight.shape}; 2-D convolutions are supported")
    window = window_of(op, source, tuple(weight.shape[2:]))
    groups = op.whole("group", 1)
    outputs, inputs = weight.shape[0], weight.shape[1] * groups
    if groups < 1 or outputs % groups:
        raise ModelError(f"it has {outputs} outputs in {groups} groups")
    if not window.even:
        source = net.call(F.pad, source, window.pads)
    bias = op.optional(2)
    layer = skip_init(
        nn.Conv2d,
        inputs,
        outputs,
        window.kernel,
        stride=window.stride,
        padding=window.before if window.even else 0,
        dilation=window.dilation,
        groups=groups,
        bias=bias is not None,
    )
    values = {"weight": weight} | ({} if bias is None else {"bias": _real(bias)})
    return _place(net, op, layer, values, source)


def gemm(net: NetBuilder, op: Operator) -> Value:
    """alpha * A' B' + beta * C as a linear layer."""
    source = op.value()
    if len(source.shape) != 2:
        raise ModelError(f"its input has shape {source.shape}; 2 axes are needed")
    if op.whole("transA", 0):
        source = net.call(torch.transpose, source, 0, 1)
    weight = _matrix(op.constant(1)) * np.float32(op.get("alpha", 1.0))
    weight = weight if op.whole("transB", 0) else weight.T
    bias = op.optional(2)
    if bias is not None:
        bias = _spread(_real(bias) * np.float32(op.get("beta", 1.0)), weight.shape[0])
    return _linear(net, op, (weight, bias), source)


def matmul(net: NetBuilder, op: Operator) -> Value:
    """By constants a linear layer, between two tensors a product."""
    if all(isinstance(given, Value) for given in op.inputs):
        return net.call(torch.matmul, op.value(0), op.value(1))
    return _linear(net, op, (_matrix(op.constant(1)).T, None), op.value())


def batch_norm(net: NetBuilder, op: Operator) -> Value:
    """With the running statistics that the file holds."""
    if op.whole("training_mode", 0) or (op.opset < 14 and op.outputs > 1):
        raise ModelError(
            "the file was exported in training mode; export it anew after model.eval()"
        )
    if not op.whole("spatial", 1):
        raise ModelError("its attribute spatial is 0; statistics by channel are supported")
    source = op.value()
    roles = ("weight", "bias", "running_mean", "running_var")
    values = {role: _real(op.constant(i)) for i, role in enumerate(roles, 1)}
    kind = nn.BatchNorm2d if len(source.shape) == 4 else nn.BatchNorm1d
    layer = kind(values["weight"].size, eps=float(op.get("epsilon", 1e-5))).eval()
    return _place(net, op, layer, values, source)


def prelu(net: NetBuilder, op: Operator) -> Value:
    """With one slope in all or one for each channel."""
    slope = _real(op.constant(1))
    if slope.size not in (1, slope.shape[0]):
        raise ModelError(f"its slopes have shape {slope.shape}; one for each channel is supported")
    return _place(net, op, nn.PReLU(slope.size), {"weight": slope.reshape(-1)}, op.value())


def add(net: NetBuilder, op: Operator) -> Value:
    """A sum; a constant for each channel becomes the bias of the layer before."""
    for this, other in ((0, 1), (1, 0)):
        source, constant = op.inputs[this], op.inputs[other]
        if not (isinstance(source, Value) and isinstance(constant, Constant) and op.alone[this]):
            continue
        if _took_bias(net, source, _real(constant.array)):
            return source
    return net.call(torch.add, operand(net, op, 0), operand(net, op, 1))


def _took_bias(net: NetBuilder, source: Value, constant: Array) -> bool:
    """Whether `source` comes from a layer that is used once and can add `constant` itself."""
    layer = net.layers.get(str(source.node.target)) if source.node.op == "call_module" else None
    calls = [n for n in net.graph.nodes if n.target == source.node.target]
    if not isinstance(layer, nn.Conv2d | nn.Linear) or len(calls) != 1:
        return False
    if constant.ndim == 0:  # no bias, but part of a formula: the 3 of a hard sigmoid
        return False
    axis = 1 if isinstance(layer, nn.Conv2d) else len(source.shape) - 1
    shape = (1,) * (len(source.shape) - constant.ndim) + constant.shape
    width = layer.weight.shape[0]
    if len(shape) != len(source.shape) or any(n != 1 for i, n in enumerate(shape) if i != axis):
        return False
    bias = _spread(constant.reshape(-1), width)
    old = layer.bias.numpy() if isinstance(layer.bias, nn.Parameter) else np.float32(0)
    layer.bias = nn.Parameter(torch.from_numpy(bias + old), requires_grad=False)
    return True


def _linear(
    net: NetBuilder, op: Operator, values: tuple[Array, Array | None], source: Value
) -> Value:
    weight, bias = values
    layer = skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    named = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return _place(net, op, layer, named, source)


def _place(
    net: NetBuilder, op: Operator, layer: nn.Module, values: Mapping[str, Array], source: Value
) -> Value:
    """The filled layer in the net, under a name of its own; one that is there already again."""
    fill(layer, values)
    weight = op.constant_name(1)
    name = layer_name(weight, op.name, op.kind, ())
    if isinstance(layer, nn.Conv2d | nn.Linear) and _same(layer, net.layers.get(name)):
        return net.layer(name, net.layers[name], source)
    return net.layer(layer_name(weight, op.name, op.kind, net.layers), layer, source)


def _same(layer: nn.Module, other: nn.Module | None) -> bool:
    """Whether both are one layer, applied twice: alike in kind, settings and every value."""
    if type(layer) is not type(other) or other is None or repr(layer) != repr(other):
        return False
    mine, theirs = layer.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


def _real(array: Array) -> Array:
    if array.dtype.kind != "f":
        raise ModelError(f"its weights are {array.dtype}; real numbers are needed")
    return np.asarray(array, np.float32)


def _matrix(array: Array) -> Array:
    if array.ndim != 2:
        raise ModelError(f"its weight has shape {array.shape}; a matrix is needed")
    return _real(array)


def _spread(bias: Array, width: int) -> Array:
    """The bias with one number for each output."""
    if bias.size not in (1, width):
        raise ModelError(f"its bias has shape {bias.shape}; one for each of {width} outputs fits")
    return np.array(np.broadcast_to(bias.reshape(-1), (width,)))


LAYERS: Mapping[str, Importer] = {
    "Add": add,
    "BatchNormalization": batch_norm,
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "PRelu": prelu,
}
