"""open_model: a candidate from a file or a function that this project does not know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from compress.candidate import Candidate
from compress.errors import ModelError, SpecError
from compress.importing.building import Shape
from compress.importing.onnx_file import read_onnx
from compress.importing.onnx_net import net_of
from compress.importing.templates import BUILDER, remember
from compress.models.presets import IMAGENET_PREPROCESS, at_resolution
from compress.spec import ModelSpec, Preprocess, TensorSpec, preprocess_from_dict


@dataclass(frozen=True)
class Opened:
    """A candidate, and what was assumed because neither the file nor the caller said it.

    `assumed_preprocess`: torchvision's for ImageNet at the net's own side, or grey pixels in
    [0, 1] for one channel. `assumed_classes`: numbers instead of names.
    """

    candidate: Candidate
    assumed_preprocess: bool
    assumed_classes: bool


def open_model(
    model: str,
    *,
    weights: Path | None = None,
    preprocess: Preprocess | None = None,
    classes: tuple[str, ...] = (),
) -> Candidate:
    """The candidate of `model`, as `opened` gives it, for who does not ask what was assumed."""
    return opened(model, weights=weights, preprocess=preprocess, classes=classes).candidate


def opened(
    model: str,
    *,
    weights: Path | None = None,
    preprocess: Preprocess | None = None,
    classes: tuple[str, ...] = (),
) -> Opened:
    """Open `model`: a path ending in .onnx or .pt2, or 'module:function'.

    `weights`: a .safetensors or .pt file for the net of a function. `preprocess` and `classes`
    override what the file says in edgepress's own metadata. Raises ModelError, one line.
    """
    suffix = Path(model).suffix.lower()
    if suffix == ".onnx":
        _refuse_weights(model, weights)
        return _from_onnx(Path(model), preprocess, classes)
    raise ModelError(
        f"{model!r} is no model; give a path ending in .onnx or .pt2, or module:function"
    )


def _refuse_weights(model: str, weights: Path | None) -> None:
    if weights is not None:
        raise ModelError(f"{model} has its own weights; leave {weights} out")


def _from_onnx(path: Path, preprocess: Preprocess | None, classes: tuple[str, ...]) -> Opened:
    file = read_onnx(path)
    said = _stated(file.about)
    net = net_of(file, path)
    return _opened(
        net, (path.stem, file.sha256), (file.input, file.shape), (preprocess, classes), said
    )


def _opened(
    net: nn.Module,
    identity: tuple[str, str],
    entry: tuple[str, Shape],
    given: tuple[Preprocess | None, tuple[str, ...]],
    said: tuple[Preprocess | None, tuple[str, ...]],
) -> Opened:
    """`identity`: stem and SHA-256 of the file; `entry`: name and shape of its input."""
    stem, sha256 = identity
    name, shape = entry
    known = given[0] or said[0]
    spec = ModelSpec(
        builder=BUILDER,
        kwargs={"name": safe_name(stem), "sha256": sha256},
        inputs=(TensorSpec(name, (1, *shape[1:])),),
        preprocess=known or _assumed(shape),
    )
    remember(sha256, net)
    candidate = Candidate.load(spec, net)
    width = math.prod(candidate.network.graph.by_id[candidate.network.graph.outputs[0]].shape[1:])
    names = given[1] or said[1]
    if names and len(names) != width:
        raise ModelError(f"{stem} answers with {width} numbers; {len(names)} classes are named")
    own = replace(spec, classes=names or tuple(map(str, range(width))))
    return Opened(replace(candidate, spec=own), known is None, not names)


def safe_name(stem: str) -> str:
    """A file's stem as a name that every file system and format takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-")[:64] or "net"


def _assumed(shape: Shape) -> Preprocess:
    """torchvision's for ImageNet, scaled to the input; plain pixels for grey pictures."""
    channels, height, width = shape[1:]
    if channels == 1:
        return Preprocess(resize=(height, width), channel_order="GREY")
    if channels != 3:
        raise ModelError(f"its input has {channels} channels; pictures have 1 or 3")
    if height != width:
        base = IMAGENET_PREPROCESS
        return replace(base, resize=(height, width), crop=None)
    blank = ModelSpec("", inputs=(TensorSpec("", shape),), preprocess=IMAGENET_PREPROCESS)
    return at_resolution(blank, height).preprocess


def _stated(about: str) -> tuple[Preprocess | None, tuple[str, ...]]:
    """(preprocessing, classes) of edgepress's own metadata; (None, ()) where there is none."""
    if not about:
        return None, ()
    try:
        raw = cast("Mapping[str, Any]", json.loads(about))
        return preprocess_from_dict(raw["preprocess"]), tuple(str(c) for c in raw["classes"])
    except (SpecError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"its edgepress metadata is damaged ({error}); get it again") from error
