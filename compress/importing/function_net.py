"""A net of the user's own code: 'module:function', found from the working directory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from compress.errors import ModelError, one_line
from compress.importing.building import Shape
from compress.spec import Preprocess

# torchvision's side for ImageNet, where nobody says another.
_SIDE = 224


def called(model: str) -> Any:
    """What the function gives: a module or a specification. Raises ModelError."""
    name, _, function = model.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # stays: stages build the net anew by the same name
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(name), function)
    except Exception as error:  # the module is the user's own code, too
        raise ModelError(
            f"{model!r} is not found from {here} or cannot be imported ({one_line(error)}); give "
            f"module:function with the module importable from the working directory"
        ) from error
    try:
        return found()
    except Exception as error:  # the user's own code raises what it likes
        raise ModelError(
            f"{model!r} fails when it is called without arguments ({one_line(error)}); give a "
            f"function that builds the net"
        ) from error


def input_shape(model: str, net: nn.Module, preprocess: Preprocess | None) -> Shape:
    """(1, C, side, side): the channels of the first convolution, the side that is cropped to.

    Raises ModelError where the net does not take that; its function may give a ModelSpec instead.
    """
    convolutions = (layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    first = next(convolutions, None)
    channels = 3 if first is None else first.in_channels
    crop = preprocess.crop if preprocess is not None else None
    side = crop or _SIDE
    shape = (1, channels, side, side)
    state = cast("Mapping[str, torch.Tensor]", net.state_dict(keep_vars=True))
    empty = {name: tensor.detach().to("meta") for name, tensor in state.items()}
    try:
        with torch.no_grad():
            answer = torch.func.functional_call(net, empty, (torch.empty(shape, device="meta"),))
    except Exception as error:
        raise ModelError(
            f"{model!r} does not take pictures of shape {shape} ({one_line(error)}); let it give "
            f"a ModelSpec, which says the shape"
        ) from error
    if not isinstance(answer, torch.Tensor):
        raise ModelError(
            f"{model!r} answers with a {type(answer).__name__}; a net that gives one tensor is "
            f"needed: wrap it in a module that picks one"
        )
    return shape
