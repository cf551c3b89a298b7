"""The empty net of given widths: writers are narrowed, and every reader fits what arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from compress.candidate import Candidate
from compress.edit import rebuild
from compress.errors import first_line
from compress.graph import TensorId
from compress.keep_channels import SetWidth, narrow_inputs, narrow_outputs
from compress.pruning.following import Followed
from compress.pruning.grouping import LAYERS, LabelledSet, pad_attribute


class UnfitError(Exception):
    """The net does not run at these widths; the message says why."""


def narrowed(
    candidate: Candidate,
    followed: Followed,
    sets: Sequence[LabelledSet],
    numbers: Mapping[str, int],
    device: str = "meta",
) -> tuple[nn.Module, list[SetWidth]]:
    """(the net with `numbers` channels in each set, widths of its paddings). Raises UnfitError.

    It has run once on a picture of zeros of that device, so that its shapes are known to fit.
    """
    model = rebuild(candidate.spec, candidate.edits).to(device)
    share = {
        int(label): numbers[one.coupled.name] / one.coupled.channels
        for one in sets
        for label in one.labels
    }
    widths = _narrow_pads(model, followed, share)
    for weight in followed.dense:
        labels = followed.slots[weight, 0]
        after = _count(labels, share)
        if after != len(labels):
            layer = weight.removesuffix(".weight")
            narrow_outputs(model.get_submodule(layer), layer, len(labels), after)
    for (name, axis), labels in followed.slots.items():
        module, _, own = name.rpartition(".")
        holder = model.get_submodule(module)
        if not isinstance(holder, LAYERS):
            _narrow_vector(holder, own, axis, _count(labels, share))
    shape = candidate.network.graph.nodes[0].shape
    answer = _run(model.float().requires_grad_(False), torch.zeros(shape, device=device))
    wanted = tuple(candidate.network.graph.by_id[t].shape for t in candidate.network.graph.outputs)
    if isinstance(answer, torch.Tensor) and wanted != (tuple(answer.shape),):
        raise UnfitError(f"its answer would be of shape {tuple(answer.shape)}")
    return model, widths


def _count(labels: np.ndarray[Any, Any], share: Mapping[int, float]) -> int:
    return round(sum(share.get(int(label), 1.0) for label in labels))


def _narrow_pads(
    model: nn.Module, followed: Followed, share: Mapping[int, float]
) -> list[SetWidth]:
    widths: list[SetWidth] = []
    for tensor, (front, behind) in followed.pads.items():
        before, after = (_count(part, share) for part in (front, behind))
        if (before, after) == (len(front), len(behind)):
            continue
        edit = _width(model, tensor, len(front), before)
        if edit is None or before != after or len(front) != len(behind):
            raise UnfitError(f"'{tensor}' adds as many channels as the program says")
        edit.apply(model)
        widths.append(edit)
    return widths


def _width(model: nn.Module, tensor: TensorId, of: int, width: int) -> SetWidth | None:
    name = pad_attribute(model.get_submodule(tensor.module), of)
    return None if name is None else SetWidth(tensor.module, name, of, width)


def _narrow_vector(holder: nn.Module, name: str, axis: int, size: int) -> None:
    tensor = getattr(holder, name)
    shape = list(tensor.shape)
    if shape[axis] == size:
        return
    shape[axis] = size
    new = tensor.detach().new_zeros(shape)
    setattr(holder, name, nn.Parameter(new) if isinstance(tensor, nn.Parameter) else new)


def _run(model: nn.Module, picture: torch.Tensor) -> Any:
    names = {module: name for name, module in model.named_modules()}

    def fit(module: nn.Module, args: tuple[Any, ...]) -> None:
        _fit(module, names[module], args[0])

    hooks = [m.register_forward_pre_hook(fit) for m in names if isinstance(m, LAYERS)]
    try:
        with torch.no_grad():
            # A traced net that is called prints where it fails; its forward does not.
            return model.forward(picture) if isinstance(model, fx.GraphModule) else model(picture)
    except Exception as error:  # whatever the net's own code raises at other widths
        raise UnfitError(first_line(error)) from error
    finally:
        for hook in hooks:
            hook.remove()


def _fit(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Make a layer read as many channels as arrive."""
    if isinstance(module, nn.Linear):
        if value.shape[-1] != module.in_features:
            narrow_inputs(module, name, module.in_features, value.shape[-1])
        return
    channels = value.shape[1]
    if isinstance(module, nn.Conv2d):
        if channels == module.in_channels:
            return
        if module.groups == module.in_channels > 1:
            multiplier = module.out_channels // module.groups
            narrow_outputs(module, name, module.out_channels, channels * multiplier)
        else:
            narrow_inputs(module, name, module.in_channels, channels)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and channels != module.num_features:
        narrow_outputs(module, name, module.num_features, channels)
