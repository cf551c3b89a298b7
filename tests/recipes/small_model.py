"""A newcomer's things: a digit net as an .onnx of torch's legacy exporter, and its pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from compress.spec import ModelSpec
from tests.digits import digits, trained


def write_model(path: Path, spec: Callable[[], ModelSpec]) -> Path:
    """The trained net, grey pictures in [0, 1], by torch's legacy exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of its successor
        torch.onnx.export(
            trained(spec).candidate.network.module(),
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            opset_version=13,
        )
    return path


def write_pictures(folder: Path, split: str, count: int, labelled: bool = False) -> Path:
    """The first `count` digits of a split as PNG, `labelled` in class folders; 0 is black."""
    images, labels = digits()[split]
    for number, (image, label) in enumerate(zip(images[:count], labels[:count], strict=True)):
        place = folder / str(label) if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.round(image[0] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number:04d}.png")
    return folder
