"""open_model: a candidate from a file or a function that this project does not know."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from compress.candidate import Candidate
from compress.errors import ModelError, SpecError
from compress.importing.function_net import called, input_shape
from compress.importing.onnx_file import read_onnx
from compress.importing.onnx_net import net_of
from compress.importing.program_net import read_program
from compress.importing.templates import BUILDER, remember
from compress.models.presets import IMAGENET_PREPROCESS, at_resolution
from compress.spec import ModelSpec, Preprocess, TensorSpec, preprocess_from_dict

# The net, its input, the file's SHA-256, the text of edgepress's own metadata.
Read = tuple[nn.Module, TensorSpec, str, str]


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
    if suffix in _READERS:
        if weights is not None:
            raise ModelError(f"{model} has its own weights; leave {weights} out")
        path = Path(model)
        net, entry, sha256, about = _READERS[suffix](path)
        spec = ModelSpec(BUILDER, {"name": safe_name(path.stem), "sha256": sha256}, (entry,))
        remember(sha256, net)
        return _completed(spec, net, (preprocess, classes), _stated(path, about))
    if ":" in model and not Path(model).exists():
        return _from_function(model, weights, preprocess, classes)
    raise ModelError(
        f"{model!r} is no model; give a path ending in .onnx or .pt2, or module:function"
    )


def _onnx(path: Path) -> Read:
    file = read_onnx(path)
    return net_of(file, path), TensorSpec(file.input, (1, *file.shape[1:])), file.sha256, file.about


def _program(path: Path) -> Read:
    net, entry, sha256 = read_program(path)
    return net, entry, sha256, ""


_READERS: Mapping[str, Callable[[Path], Read]] = {".onnx": _onnx, ".pt2": _program}


def _from_function(
    model: str, weights: Path | None, preprocess: Preprocess | None, classes: tuple[str, ...]
) -> Opened:
    """A function's module or specification, with the weights of a checkpoint if one is given."""
    made = called(model)
    if isinstance(made, ModelSpec):
        if weights is None:
            raise ModelError(f"{model!r} gives a specification; give a checkpoint with its weights")
        spec = replace(made, preprocess=preprocess or made.preprocess)
        candidate = Candidate.load(spec, weights)
        return _completed(spec, candidate, (spec.preprocess, classes), (None, made.classes))
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{model!r} gives {type(made).__name__}; a function that gives a torch module or a "
            f"ModelSpec is needed"
        )
    entry = TensorSpec("input", input_shape(model, made.eval(), preprocess))
    source = made if weights is None else weights
    return _completed(ModelSpec(model, {}, (entry,)), source, (preprocess, classes), (None, ()))


def _completed(
    spec: ModelSpec,
    source: nn.Module | Path | Candidate,
    given: tuple[Preprocess | None, tuple[str, ...]],
    said: tuple[Preprocess | None, tuple[str, ...]],
) -> Opened:
    """The candidate, with the preprocessing and classes that are given, said or assumed."""
    known = given[0] or said[0]
    names = given[1] or said[1]
    full = replace(spec, preprocess=known or _assumed(spec))
    candidate = source if isinstance(source, Candidate) else Candidate.load(full, source)
    graph = candidate.network.graph
    width = math.prod(graph.by_id[graph.outputs[0]].shape[1:])
    if names and len(names) != width:
        raise ModelError(
            f"{spec.name} gives {width} numbers, but {len(names)} classes are named; give a name "
            f"for each number"
        )
    full = replace(full, classes=names or tuple(map(str, range(width))))
    return Opened(replace(candidate, spec=full), known is None, not names)


def safe_name(stem: str) -> str:
    """A file's stem as a name that every file system and format takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-")[:64] or "net"


def _assumed(spec: ModelSpec) -> Preprocess:
    """torchvision's for ImageNet, scaled to the input; plain pixels for grey pictures."""
    shape = spec.input_shape
    channels, height, width = shape[1:]
    if channels == 1:
        return Preprocess(resize=(height, width), channel_order="GREY")
    if channels != 3:
        raise ModelError(
            f"{spec.name} takes {channels} channels; pictures have 1 or 3: give a net for pictures"
        )
    if height != width:
        base = IMAGENET_PREPROCESS
        return replace(base, resize=(height, width), crop=None)
    blank = ModelSpec("", inputs=(TensorSpec("", shape),), preprocess=IMAGENET_PREPROCESS)
    return at_resolution(blank, height).preprocess


def _stated(path: Path, about: str) -> tuple[Preprocess | None, tuple[str, ...]]:
    """(preprocessing, classes) of edgepress's own metadata; (None, ()) where there is none."""
    if not about:
        return None, ()
    try:
        raw = cast("Mapping[str, Any]", json.loads(about))
        return preprocess_from_dict(raw["preprocess"]), tuple(str(c) for c in raw["classes"])
    except (SpecError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path}: its edgepress metadata is damaged ({error}); get it again"
        ) from error
