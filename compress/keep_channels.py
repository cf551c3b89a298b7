"""Edits that make layers narrower, as data: which channels stayed of which tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.errors import SpecError
from compress.parts import find

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_LAYERS = (nn.Conv2d, nn.Linear, *_NORMS)
_VECTORS = ("weight", "bias", "running_mean", "running_var")
_LIST = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")
_LARGEST = 1 << 22
_MASK = re.compile(r"x[0-9a-f]+")


@dataclass(frozen=True)
class KeepChannels:
    """Of `of` channels `kept` stay, in that order, on one side of some layers.

    outputs: layers that lose outputs, a batch norm or depthwise convolution with its inputs;
    inputs: layers that lose inputs; tensors: other parameters and buffers, 'name:axis'. kept: 'x'
    and a mask in hexadecimal, the first channel the highest bit, or where their order changed the
    indices with commas between. each: consecutive inputs that a channel has (behind a flatten).
    """

    of: int
    kept: str
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    each: int = 1

    @property
    def indices(self) -> NDArray[np.int64]:
        """The exact indices kept on the axis, (n,); SpecError where they do not fit."""
        first = np.array(self._kept(), np.int64)[:, None] * self.each
        return (first + np.arange(self.each)).ravel()

    def _kept(self) -> list[int]:
        if not (self.of >= 1 and self.each >= 1 and self.of * self.each <= _LARGEST):
            raise SpecError(
                f"edit keeps channels of {self.of} x {self.each}; 1 to {_LARGEST} are allowed"
            )
        # Before the text is read: of a damaged file it may be as long as the file.
        longest = (len(str(_LARGEST)) + 1) * self.of
        if len(self.kept) > longest:
            kept: list[int] = []
        elif _MASK.fullmatch(self.kept):
            row = f"{int(self.kept[1:], 16):b}".zfill(self.of)
            kept = [i for i, bit in enumerate(row) if bit == "1"]
        else:
            fits = _LIST.fullmatch(self.kept)
            kept = [int(i) for i in self.kept.split(",")] if fits else []
        if not kept or len(set(kept)) < len(kept) or max(kept) >= self.of:
            raise SpecError(
                f"edit keeps {self.kept[:40]!r} of {self.of} channels; different ones below "
                f"{self.of} are needed, at least one"
            )
        return kept

    def apply(self, model: nn.Module) -> None:
        before, after = self.of * self.each, len(self._kept()) * self.each
        for name in self.outputs:
            narrow_outputs(find(model, name), name, before, after)
        for name in self.inputs:
            narrow_inputs(find(model, name), name, before, after)
        for text in self.tensors:
            name, _, axis = text.rpartition(":")
            module, _, own = name.rpartition(".")
            _narrow_tensor(find(model, module) if module else model, own, axis, (before, after))


@dataclass(frozen=True)
class SetWidth:
    """The whole number `attribute` of `module`, which adds `of` channels of zeros, became `width`.

    For parts without parameters: the shortcuts of option A, which widen by zeros. module: '' is the
    net itself.
    """

    module: str
    attribute: str
    of: int
    width: int

    def apply(self, model: nn.Module) -> None:
        module = find(model, self.module) if self.module else model
        # torch's own layers have parameters that must fit: KeepChannels changes both.
        own = not self.attribute.startswith("_") and not isinstance(module, _LAYERS)
        found = vars(module).get(self.attribute) if own else None
        if type(found) is not int or found != self.of or not 0 <= self.width <= found:
            raise SpecError(
                f"edit sets {self.attribute!r} of {self.module!r} from {self.of} to {self.width}, "
                f"and it is {found!r}: give the specification of the net that was edited"
            )
        setattr(module, self.attribute, self.width)


def keep(of: int, indices: NDArray[np.int64]) -> tuple[str, int, int]:
    """(kept, of, each) of a KeepChannels for these indices of an axis of `of`."""
    each = _run(of, indices)
    channels = indices[::each] // each
    if len(channels) > 1 and (np.diff(channels) < 0).any():
        return ",".join(map(str, channels.tolist())), of // each, each
    row = np.zeros(of // each, np.uint8)
    row[channels] = 1
    return f"x{int(''.join(map(str, row.tolist())), 2):x}", of // each, each


def narrow_outputs(layer: nn.Module, name: str, before: int, after: int) -> None:
    """Give `layer` `after` outputs instead of `before`; a depthwise one's inputs go with them."""
    if isinstance(layer, nn.Conv2d) and layer.out_channels == before:
        if layer.groups > 1 and layer.groups == layer.in_channels:
            multiplier = layer.out_channels // layer.in_channels
            layer.in_channels = layer.groups = _quotient(after, multiplier, name)
        _quotient(after, layer.groups, name)
        layer.out_channels = after
        _shrink(layer, ("weight", "bias"), 0, after)
    elif isinstance(layer, nn.Linear) and layer.out_features == before:
        layer.out_features = after
        _shrink(layer, ("weight", "bias"), 0, after)
    elif isinstance(layer, _NORMS) and layer.num_features == before:
        layer.num_features = after
        _shrink(layer, _VECTORS, 0, after)
    else:
        raise _unfit(layer, name, before, "outputs")


def narrow_inputs(layer: nn.Module, name: str, before: int, after: int) -> None:
    """Give `layer` `after` inputs instead of `before`."""
    if isinstance(layer, nn.Conv2d) and layer.in_channels == before:
        per = _quotient(after, layer.groups, name)
        layer.in_channels = after
        _shrink(layer, ("weight",), 1, per)
    elif isinstance(layer, nn.Linear) and layer.in_features == before:
        layer.in_features = after
        _shrink(layer, ("weight",), 1, after)
    else:
        raise _unfit(layer, name, before, "inputs")


def _narrow_tensor(module: nn.Module, name: str, axis: str, sizes: tuple[int, int]) -> None:
    before, after = sizes
    held = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    place = int(axis) if re.fullmatch("[0-9]", axis) else -1
    if name not in held or not 0 <= place < held[name].dim() or held[name].shape[place] != before:
        raise SpecError(
            f"edit narrows tensor {name!r} on axis {axis!r}, which has no {before} channels there; "
            f"give the specification of the net that was edited"
        )
    _shrink(module, (name,), place, after)


def _shrink(module: nn.Module, names: Sequence[str], axis: int, size: int) -> None:
    for name in names:
        tensor = getattr(module, name, None)
        if not isinstance(tensor, torch.Tensor):
            continue
        shape = list(tensor.shape)
        shape[axis] = size
        new = tensor.detach().new_zeros(shape)
        if isinstance(tensor, nn.Parameter):
            setattr(module, name, nn.Parameter(new, requires_grad=tensor.requires_grad))
        else:
            setattr(module, name, new)


def _run(of: int, indices: NDArray[np.int64]) -> int:
    """The greatest length of runs, from a multiple of it each, that the indices consist of."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    each = int(
        np.gcd.reduce(np.concatenate((breaks, indices[np.r_[0, breaks]], [of, len(indices)])))
    )
    return each if (indices.reshape(-1, each)[:, 0] % each == 0).all() else 1


def _quotient(channels: int, groups: int, name: str) -> int:
    if channels < 1 or channels % groups:
        raise SpecError(
            f"edit gives {name!r} {channels} channels, which is no multiple of {groups}"
        )
    return channels // groups


def _unfit(layer: nn.Module, name: str, before: int, side: str) -> SpecError:
    return SpecError(
        f"edit narrows {name!r} ({type(layer).__name__}), which has no {before} {side}; give the "
        f"specification of the net that was edited"
    )
