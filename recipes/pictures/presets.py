"""The preprocessings that most published nets were trained with, by name; or one from a file.

For model files of other makers, which do not say how they are to be fed. Wrong preprocessing costs
accuracy without any error, so none of these is ever guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from compress.errors import DataError, SpecError
from compress.models.presets import IMAGENET_PREPROCESS
from compress.spec import Preprocess, preprocess_from_dict

_MAX_SIDE = 4096
# Longer than any honest one: a hostile file stops here.
_LONGEST = 1 << 16


def _imagenet(side: int) -> Preprocess:
    """torchvision, timm, most of PyTorch: RGB, 256 to 224 in proportion, ImageNet's mean and std.

    torchvision/transforms/_presets.py, ImageClassification.
    """
    common = IMAGENET_PREPROCESS
    return Preprocess(resize=_shorter(side, 224, 256), crop=side, mean=common.mean, std=common.std)


def _caffe(side: int) -> Preprocess:
    """BVLC's Caffe: warped to 256 x 256, cropped to 227 or 224, BGR in 0..255 less the mean.

    github.com/BVLC/caffe, models/bvlc_reference_caffenet/train_val.prototxt.
    """
    warped = 256 if side in (224, 227) else _shorter(side, 227, 256)
    return Preprocess(
        resize=(warped, warped),
        crop=side,
        antialias=False,
        channel_order="BGR",
        scale=1.0,
        mean=(104.0, 117.0, 123.0),
        std=(1.0, 1.0, 1.0),
    )


def _inception(side: int) -> Preprocess:
    """TensorFlow's Inception and MobileNet models: the middle 87.5 %, pixels in [-1, 1].

    github.com/tensorflow/models, slim/preprocessing/inception_preprocessing.py.
    """
    return Preprocess(
        resize=_shorter(side, 7, 8), crop=side, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )


def _unit(side: int) -> Preprocess:
    """RGB in [0, 1], the shorter side shrunk to the input's, the middle kept."""
    return Preprocess(resize=side, crop=side)


PRESETS: Mapping[str, Callable[[int], Preprocess]] = {
    "imagenet": _imagenet,
    "caffe": _caffe,
    "inception": _inception,
    "unit": _unit,
}


def named_preprocess(text: str, side: int) -> Preprocess:
    """A preset by its name for a net of `side` x `side` pixels, or the one in a file *.json.

    The file holds the fields of `Preprocess` as `edgepress inspect FILE --json` shows them; what
    is left out has its default. Raises DataError for an unknown name and an unreadable file.
    """
    if not 1 <= side <= _MAX_SIDE:
        raise DataError(f"an input of {side} x {side} pixels; sides of 1 to {_MAX_SIDE} are taken")
    if text in PRESETS:
        return PRESETS[text](side)
    if Path(text).suffix.lower() != ".json":
        raise DataError(
            f"preprocessing {text!r} was asked for; there are {', '.join(PRESETS)}, or give a "
            f".json file with the fields of Preprocess"
        )
    return _from_file(Path(text))


def preprocess_for(what: str, text: str, shape: tuple[int, ...]) -> Preprocess:
    """`named_preprocess` for `what`, a net or file that takes (channels, height, width) pictures.

    Raises DataError where the two do not go together.
    """
    channels, height, width = shape
    if height != width and text in PRESETS:
        raise DataError(
            f"{what} takes {width} x {height} pixels; {text!r} is for square pictures: give "
            f"--preprocess a .json file"
        )
    chosen = named_preprocess(text, height)
    check_channels(what, chosen, channels)
    return chosen


def check_channels(what: str, preprocess: Preprocess, channels: int) -> None:
    """DataError where `what` takes other channels than `preprocess` gives."""
    order = preprocess.channel_order
    if channels != (1 if order == "GREY" else 3):
        wanted = "GREY" if channels == 1 else "RGB or BGR"
        raise DataError(
            f"{what} takes {channels} channel(s), its preprocessing gives {order}; give "
            f"--preprocess a .json file with channel_order {wanted}"
        )


def _from_file(path: Path) -> Preprocess:
    known = asdict(Preprocess())
    try:
        if path.stat().st_size > _LONGEST:
            raise DataError(f"{path}: over {_LONGEST:,} bytes; give the fields {sorted(known)}")
        raw: Any = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a .json file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error}); give the fields {sorted(known)}") from error
    if not isinstance(raw, dict) or set(raw) - set(known):
        found = sorted(map(str, raw)) if isinstance(raw, dict) else type(raw).__name__
        names = [field.name for field in fields(Preprocess)]
        raise DataError(f"{path}: has {found}; allowed are {', '.join(names)}")
    try:
        return preprocess_from_dict({**known, **raw})
    except SpecError as error:
        raise DataError(f"{path}: {error}; correct the file") from error


def _shorter(side: int, crop: int, resize: int) -> int:
    """The shorter side to resize to, so that a crop of `side` keeps crop / resize of it."""
    return round(side * resize / crop)
