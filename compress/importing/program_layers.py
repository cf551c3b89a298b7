"""ATen operators with weights, as torch's own layers: conv2d, linear, batch_norm, prelu."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.utils import skip_init

from compress.errors import ModelError
from compress.importing.building import Constant, NetBuilder, Value, fill
from compress.importing.names import layer_name


def _conv(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    weight, bias = _held(given["weight"]), given["bias"]
    padding = given["padding"]
    layer = skip_init(
        nn.Conv2d,
        weight.array.shape[1] * given["groups"],
        weight.array.shape[0],
        tuple(weight.array.shape[2:]),
        stride=tuple(given["stride"]) * (2 // len(given["stride"])),
        padding=padding if isinstance(padding, str) else tuple(padding) * (2 // len(padding)),
        dilation=tuple(given["dilation"]) * (2 // len(given["dilation"])),
        groups=given["groups"],
        bias=bias is not None,
    )
    return _placed(net, layer, given, "conv")


def _linear(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    weight = _held(given["weight"])
    outputs, inputs = weight.array.shape
    layer = skip_init(nn.Linear, inputs, outputs, bias=given["bias"] is not None)
    return _placed(net, layer, given, "linear")


def _batch_norm(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    if given["training"]:
        raise ModelError("the program was exported in training mode; export model.eval()")
    kind = nn.BatchNorm2d if len(given["input"].shape) == 4 else nn.BatchNorm1d
    width = _held(given["running_mean"]).array.shape[0]
    layer = kind(width, eps=given["eps"], affine=given["weight"] is not None).eval()
    return _placed(net, layer, given, "norm")


def _prelu(net: NetBuilder, given: Mapping[str, Any]) -> Value:
    return _placed(net, nn.PReLU(_held(given["weight"]).array.size), given, "prelu")


def _placed(net: NetBuilder, layer: nn.Module, given: Mapping[str, Any], kind: str) -> Value:
    """The layer under the name that its weights have, once however often it is called."""
    roles = ("weight", "bias", "running_mean", "running_var")
    held = {role: _held(given[role]) for role in roles if given.get(role) is not None}
    fill(layer, {role: constant.array for role, constant in held.items()})
    first = next(iter(held.values())).name
    path = first.rpartition(".")[0]
    known = net.layers.get(path)
    if known is not None and repr(known) == repr(layer):
        return net.layer(path, known, given["input"])
    name = layer_name(f"{path}.weight", path, kind, net.layers)
    return net.layer(name, layer, given["input"])


def _held(given: Any) -> Constant:
    if not isinstance(given, Constant):
        raise ModelError("its weights are computed from the picture")
    return given


LAYERS: Mapping[str, Callable[[NetBuilder, Mapping[str, Any]], Value]] = {
    "batch_norm": _batch_norm,
    "conv2d": _conv,
    "linear": _linear,
    "prelu": _prelu,
}
