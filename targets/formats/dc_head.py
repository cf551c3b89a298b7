"""The container's head: what the file says of its net, the tensors' names, the index; deflated.

    varint: bytes of the description; the description, canonical JSON
    varint: bytes of the names; the names (dc_record.py)
    the index's columns, to the end

Deflated without zlib's header and with a preset dictionary, `DICTIONARY`: a container of four
kilobytes has no room to say for itself how specifications and stages are spelled. It is
part of the format.

In the description three things that repeat are short: class names that are the numbers 0, 1, ...
are their count; a step of the history is its settings alone where these begin with the stage's
name; a grid of an activation is a list, a scale of float32's precision in it a text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.errors import ContainerError, ExportError

# Bytes after inflating. The head becomes Python objects of many times its size.
LIMITS = {"head": 8 << 20, "graph": 16 << 20}
_MOST_CLASSES = 1 << 16

_NAMES = """\
stage3.features.0.body.blocks.10.conv_dw.conv_pw.downsample.0.shortcut.running_mean
running_varnum_batches_trackedbranch1.0.branch2.expand1x1expand3x3.squeeze.layer1.0.conv1.bias
layer1.0.conv1.weight
layer1.0.conv2.bias
layer1.0.conv2.weight
layer2.features.3.squeeze.bias
features.3.squeeze.weight
features.4.expand1x1.bias
features.4.expand1x1.weight
features.4.expand3x3.bias
features.4.expand3x3.weight
features.1.conv.0.0.bias
features.1.conv.0.0.weight
features.1.conv.1.bias
features.1.conv.1.weight
classifier.1.bias
classifier.1.weight
conv1.bias
conv1.weight
fc.bias
fc.weight
linear.bias
linear.weight
conv1.bias
conv1.weight
conv2.bias
conv2.weight
fc1.bias
fc1.weight
fc2.bias
fc2.weight
fc3.bias
fc3.weight"""
_STAGES = (
    "features.0/relu#0/add#0/cat#0/linear#0/conv2d#0/hardtanh#0/max_pool2d#0/input#0"
    '{"kind":"Factorized","layer":"","rank":{"kind":"FoldedBatchNorm","layer":"conv1","norm":"bn1"}'
    "QuantizeInt8(observer='mse', include=('*',), exclude=())"
    "FactorizeSVD(rank=, energy=0.9PruneGradual(PruneIterative("
    "lambda_=RateDistortion(budget=scope='global', 'sensitivity'"
    "PruneMagnitude(sparsity=(('conv1', 0.34), ('conv2', 0.88), ('fc1', 0.92), ('fc2', 0.81)), "
    "include=('*',), exclude=(), scope='layer')"
    "FineTune(epochs=5, learning_rate=0.001)"
    "ShareWeights(bits=(('conv*', 8), ('fc*', 5), ('*', 6)), method='optimal', include=('*',), "
    "exclude=())"
    "FoldBatchNorm()"
)
_SPEC = (
    '["airplane","automobile","bird","cat","deer","dog","frog","horse","ship","truck"]'
    '{"activations":{},"edits":[],"float_nodes":[],"history":["'
    '"],"spec":{"builder":"compress.importing.templates:imported'
    "compress.models.squeezenet:squeezenet1_1"
    "compress.models.mobilenet_v2:mobilenet_v2"
    "compress.models.shufflenet_v2:shufflenet_v2"
    "compress.models.resnet_cifar:resnet20"
    "compress.models.lenet:lenet300"
    'compress.models.lenet:lenet5","classes":10,"inputs":[{"dtype":"float32","layout":"NCHW",'
    '"name":"input","shape":[1,3,224,224]}],"kwargs":{"classes":1000,"small":true},'
    '"preprocess":{"antialias":true,"channel_order":"RGB","crop":224,"interpolation":"bilinear",'
    '"mean":[0.485,0.456,0.406],"resize":256,"scale":0.00392156862745098,'
    '"std":[0.229,0.224,0.225]}},"ties":[],"version":1}'
    '"inputs":[{"dtype":"float32","layout":"NCHW","name":"input","shape":[1,3,32,32]}],'
    '"inputs":[{"dtype":"float32","layout":"NCHW","name":"input","shape":[1,1,28,28]}],'
    '"kwargs":{},"preprocess":{"antialias":true,"channel_order":"GREY","crop":null,'
    '"interpolation":"bilinear","mean":[0.1307],"resize":null,"scale":0.00392156862745098,'
    '"std":[0.3081]}},"ties":[],"version":1}'
)
DICTIONARY = (_NAMES + _STAGES + _SPEC).encode()


def pack_head(about: Mapping[str, Any], names: bytes, columns: bytes) -> bytes:
    """The deflated head. Raises ExportError where the reader would refuse it for its length."""
    text = canonical(_short(about)).encode()
    whole = write_varint(len(text)) + text + write_varint(len(names)) + names + columns
    return deflate(whole, "head", DICTIONARY)


def unpack_head(data: bytes | memoryview) -> tuple[Mapping[str, Any], bytes, bytes]:
    """(about, names, columns); ContainerError for damage."""
    cursor = Cursor(inflate(data, "head", DICTIONARY), "the head")
    text = bytes(cursor.take(cursor.varint()))
    names = bytes(cursor.take(cursor.varint()))
    return _long(read_about(text)), names, bytes(cursor.rest())


def canonical(about: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal data give equal text."""
    return json.dumps(about, sort_keys=True, separators=(",", ":"))


def read_about(text: bytes) -> dict[str, Any]:
    """The description as it is written."""
    try:
        about: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"part 'about' is damaged ({error}); get the file again") from error
    if not isinstance(about, dict):
        raise ContainerError("part 'about' is damaged (no JSON object); get the file again")
    return cast("dict[str, Any]", about)


def deflate(data: bytes, part: str, dictionary: bytes = b"") -> bytes:
    """Raw deflate, as small as zlib makes it."""
    if len(data) > LIMITS[part]:
        raise ExportError(
            f"the container's part {part!r} takes {len(data):,} bytes; at most "
            f"{LIMITS[part]:,} are allowed: shorten names, or leave the graph out"
        )
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=dictionary)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes | memoryview, part: str, dictionary: bytes = b"") -> bytes:
    """Inflate with a bound, so that a small file cannot fill the memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, zdict=dictionary)
    limit = LIMITS[part]
    try:
        # One byte more than allowed, so that a stream of just the limit reaches its end.
        text = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise ContainerError(f"part {part!r} is damaged ({error}); get the file again") from error
    if len(text) > limit:
        raise ContainerError(f"part {part!r} inflates to more than the allowed {limit:,} bytes")
    if not inflater.eof or inflater.unused_data:
        raise ContainerError(f"part {part!r} is cut off or has a tail; get the file again")
    return text


def _short(about: Mapping[str, Any]) -> dict[str, Any]:
    short = dict(about)
    spec: Any = short.get("spec")
    if isinstance(spec, dict) and "classes" in spec:
        own = cast("dict[str, Any]", spec)
        count = len(own["classes"])
        if own["classes"] == _numbers(count) and count <= _MOST_CLASSES:
            short["spec"] = {**own, "classes": count}
    if "history" in short:
        short["history"] = [_short_step(step) for step in short["history"]]
    if "activations" in short:
        short["activations"] = {
            name: _short_grid(grid) for name, grid in short["activations"].items()
        }
    return short


def _long(short: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_short`; what is of a wrong type stays, and is refused by who uses it."""
    about = dict(short)
    spec: Any = about.get("spec")
    if isinstance(spec, dict) and type(cast("dict[str, Any]", spec).get("classes")) is int:
        own = cast("dict[str, Any]", spec)
        if not 0 <= own["classes"] <= _MOST_CLASSES:
            raise ContainerError(
                f"part 'about' is damaged: {own['classes']} classes, at most {_MOST_CLASSES}"
            )
        about["spec"] = {**own, "classes": _numbers(own["classes"])}
    history: Any = about.get("history")
    if isinstance(history, list):
        about["history"] = [_long_step(step) for step in cast("list[Any]", history)]
    grids: Any = about.get("activations")
    if isinstance(grids, dict):
        named = cast("dict[str, Any]", grids)
        about["activations"] = {name: _long_grid(grid) for name, grid in named.items()}
    return about


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _short_step(step: Mapping[str, str]) -> object:
    begins = step["settings"].partition("(")[0] == step["stage"]
    return step["settings"] if begins and set(step) == {"settings", "stage"} else dict(step)


def _long_step(step: Any) -> Any:
    if not isinstance(step, str):
        return step
    return {"settings": step, "stage": step.partition("(")[0]}


_GRID_FIELDS = ("scale", "zero_point", "bits", "observer")


def _short_grid(grid: Mapping[str, Any]) -> object:
    if set(grid) != set(_GRID_FIELDS):
        return dict(grid)
    scale = grid["scale"]
    if float(np.float32(scale)) == scale:  # a text, so that it is not taken for a double
        scale = str(np.float32(scale))
    return [scale, *(grid[name] for name in _GRID_FIELDS[1:])]


def _long_grid(grid: Any) -> Any:
    if not isinstance(grid, list) or len(cast("list[Any]", grid)) != len(_GRID_FIELDS):
        return grid
    long = dict(zip(_GRID_FIELDS, cast("list[Any]", grid), strict=True))
    if isinstance(long["scale"], str):
        with np.errstate(over="ignore"):  # infinity is refused by who reads the grid
            long["scale"] = float(np.float32(_number(long["scale"])))
    return long


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ContainerError(f"part 'about' is damaged: scale {text[:40]!r}") from error
