"""Every net of compress/models, found by walking it, in its smallest form: a new one is among them.

A net with the options `small` and `width` takes them. One that has neither and is large must be a
chain of convolutions and linear layers, as AlexNet and VGG are; its layers are then narrowed.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

import compress.models
from compress.candidate import Candidate
from compress.errors import SpecError
from compress.models.presets import at_resolution
from compress.spec import ModelSpec

_WIDTHS = (0.25, 0.5, 1.0)
_SIDES = (32, 64, 96, 128)  # of pictures, in pixels
_LARGE = 2_000_000
_NARROWER = 16


def builders() -> dict[str, Callable[..., ModelSpec]]:
    """Functions `*_spec` that need no argument, by the name before `_spec`."""
    found: dict[str, Callable[..., ModelSpec]] = {}
    for info in pkgutil.walk_packages(compress.models.__path__, "compress.models."):
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == info.name and not name.startswith("_")
            if own and name.endswith("_spec") and _needs_nothing(function):
                found[name.removesuffix("_spec")] = function
    return found


def smallest(name: str) -> ModelSpec:
    """That net's specification, as small as its options make it."""
    builder = builders()[name]
    options = inspect.signature(builder).parameters
    chosen: dict[str, bool | float] = {"small": True} if "small" in options else {}
    if "width" in options:
        chosen["width"] = next(w for w in _WIDTHS if _builds(builder(**chosen, width=w)))
    spec = builder(**chosen)
    with torch.device("meta"):
        net = spec.build()
    own = spec.input_shape[-1]
    side = next((s for s in _SIDES if s < own and _takes(net, spec, s)), own)
    spec = at_resolution(spec, side)
    if sum(p.numel() for p in net.parameters()) < _LARGE:
        return spec
    return replace(spec, builder="tests.every_net:narrow", kwargs={"net": name})


@functools.cache
def lively(name: str) -> Candidate:
    """That net, random weights and biases, and batch norms whose factors are of both signs."""
    spec = smallest(name)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = spec.build()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_()
                module.bias.normal_()
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator]
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.2)
    return Candidate.load(spec, net)


def narrow(net: str) -> nn.Module:
    """The chain of layers of `net`, all of them narrower but its input and its output."""
    with torch.device("meta"):
        module = builders()[net]().build()
    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    ends = (layers[0][0], layers[-1][0])
    for name, layer in layers:
        parent, _, own = name.rpartition(".")
        inside, outside = (_NARROWER if name != end else 1 for end in ends)
        setattr(module.get_submodule(parent), own, _narrowed(layer, inside, outside))
    kept = {id(p) for _, layer in layers for p in layer.parameters()}
    assert not [n for n, p in module.named_parameters() if id(p) not in kept and p.is_meta], net
    return module


def _narrowed(layer: nn.Conv2d | nn.Linear, inside: int, outside: int) -> nn.Module:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features // inside, layer.out_features // outside, bias)
    assert layer.groups == 1
    return nn.Conv2d(
        layer.in_channels // inside,
        layer.out_channels // outside,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        bias=bias,
    )


def _needs_nothing(function: Callable[..., object]) -> bool:
    given = inspect.signature(function).parameters.values()
    return all(p.default is not p.empty for p in given)


def _takes(net: nn.Module, spec: ModelSpec, side: int) -> bool:
    """True where the net computes something of so small a picture."""
    try:
        with torch.no_grad():
            net(torch.zeros((1, spec.input_shape[1], side, side), device="meta"))
    except RuntimeError:
        return False
    return True


def _builds(spec: ModelSpec) -> bool:
    try:
        spec.build()
    except SpecError:
        return False
    return True
