"""The authors' ImageNet weights of SqueezeNet 1.1, as Caffe has them, for the net of this project.

github.com/forresti/SqueezeNet, SqueezeNet_v1.1: `squeezenet_v1.1.caffemodel`, `deploy.prototxt`.
Caffe rounds pooled sizes up, as `squeezenet1_1` does, so both nets compute the same: 227 x 227
pixels become 113, 56, 28, 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from compress.errors import CheckpointError
from compress.models.presets import at_resolution
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec, Preprocess

Array = TypeVar("Array")

# `train_val.prototxt` warps to 256 x 256 and crops 227; pixels stay in 0..255, blue comes first.
CAFFE_PREPROCESS = Preprocess(
    resize=(256, 256),
    crop=227,
    interpolation="bilinear",
    antialias=False,
    channel_order="BGR",
    scale=1.0,
    mean=(104.0, 117.0, 123.0),
    std=(1.0, 1.0, 1.0),
)

# Caffe's fire2 to fire9 among the features.
_FIRES = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
_PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}
_LAYERS = {
    "conv1": "features.0",
    **{
        f"fire{number}/{theirs}": f"features.{place}.{ours}"
        for number, place in _FIRES.items()
        for theirs, ours in _PARTS.items()
    },
    "conv10": "classifier.1",
}


def from_caffe(state: Mapping[str, Array]) -> dict[str, Array]:
    """`state` by Caffe's names ('fire2/squeeze1x1.weight') -> the same by those of `squeezenet1_1`.

    The values, weights (O, I, H, W) and biases, are handed on as they are. CheckpointError names
    the first tensor that is missing or not of this net.
    """
    names = {
        f"{theirs}.{role}": f"{ours}.{role}"
        for theirs, ours in _LAYERS.items()
        for role in ("weight", "bias")
    }
    for name in sorted({*names, *state}):
        if name not in state:
            raise CheckpointError(f"the weights lack {name!r}; Caffe's SqueezeNet 1.1 has it")
        if name not in names:
            raise CheckpointError(
                f"the weights have {name!r}, which Caffe's SqueezeNet 1.1 does not have"
            )
    return {ours: state[theirs] for theirs, ours in names.items()}


def squeezenet1_1_caffe_spec(classes: tuple[str, ...] | None = None) -> ModelSpec:
    """SqueezeNet 1.1 for ImageNet at 227 pixels, with the preprocessing of the Caffe weights."""
    return replace(at_resolution(squeezenet1_1_spec(classes), 227), preprocess=CAFFE_PREPROCESS)
