"""What each output position of a layer sees of its input: all positions, or a few of them."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn


def columns(layer: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """(pictures, groups, n, positions): what each output position of a layer sees of its input."""
    if not isinstance(layer, nn.Conv2d):
        return given.reshape(len(given), 1, -1, given.shape[-1]).transpose(2, 3)
    seen = F.unfold(_padded(layer, given), layer.kernel_size, layer.dilation, 0, layer.stride)
    return seen.reshape(len(given), layer.groups, -1, seen.shape[2])


def columns_at(layer: nn.Module, given: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(groups, pictures * k, n): as `columns`, at k positions of each picture.

    places: int64 (pictures, k), positions counted along the rows of the output.
    """
    every = torch.arange(len(given))[:, None]
    if not isinstance(layer, nn.Conv2d):
        flat = given.reshape(len(given), -1, given.shape[-1])
        return flat[every, places].reshape(1, -1, given.shape[-1])
    padded = _padded(layer, given)
    (high, wide), dilation = cast("tuple[int, int]", layer.kernel_size), layer.dilation
    across = (padded.shape[3] - dilation[1] * (wide - 1) - 1) // layer.stride[1] + 1
    down = torch.arange(high).repeat_interleave(wide) * dilation[0]
    along = torch.arange(wide).repeat(high) * dilation[1]
    rows = (places // across * layer.stride[0])[..., None] + down
    cols = (places % across * layer.stride[1])[..., None] + along
    seen = padded[every[..., None], :, rows, cols]  # (pictures, k, high * wide, channels)
    seen = seen.transpose(2, 3).reshape(places.numel(), layer.groups, -1)
    return seen.transpose(0, 1).contiguous()


def positions_of(layer: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """The layer's output as (pictures, positions, channels), positions as `columns` has them."""
    if isinstance(layer, nn.Conv2d):
        return output.flatten(2).transpose(1, 2)
    return output.reshape(len(output), -1, output.shape[-1])


def _padded(layer: nn.Conv2d, given: torch.Tensor) -> torch.Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(given, _padding(layer), mode)


def _padding(layer: nn.Conv2d) -> list[int]:
    """Left, right, top, bottom, as F.pad takes them."""
    sides: list[int] = []
    for axis in (1, 0):
        if isinstance(layer.padding, str):
            total = (
                layer.dilation[axis] * (layer.kernel_size[axis] - 1)
                if layer.padding == "same"
                else 0
            )
            sides += [total // 2, total - total // 2]
        else:
            sides += [int(layer.padding[axis])] * 2
    return sides
