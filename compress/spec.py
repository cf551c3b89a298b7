"""ModelSpec: how to build an empty net and how to feed it, as data that files can carry.

A specification read from a file may name only builders of `compress.models`; for any other net
the caller hands the specification in. So a file never chooses which module is imported.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from compress.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

OWN_BUILDERS = "compress.models."
# A file's input shape is allocated for tracing: no more than 1 GB of it.
MAX_ELEMENTS = 1 << 28
_WAYS = ("nearest", "bilinear", "bicubic")
_CHANNELS = {"RGB": 3, "BGR": 3, "GREY": 1}
# Of a picture, in pixels: more than any camera's, and a bound on hostile files.
_LONGEST_SIDE = 1 << 20
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and type of one input or output tensor; `layout` is 'NCHW', 'NHWC' or 'NC'."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: Literal["NCHW", "NHWC", "NC"] = "NCHW"


@dataclass(frozen=True)
class Preprocess:
    """From an 8-bit picture to the net's input: resize, crop, reorder, scale, normalise.

    `resize` is the length of the shorter side in pixels, or (height, width) to warp to, or None;
    `crop` the side of the centred square kept, or None. Then `(pixel * scale - mean) / std` for
    each channel in `channel_order` ('RGB', 'BGR' or 'GREY'), pixels in 0..255; `mean` and `std`
    have one number for all channels or one for each. Raises SpecError for anything else.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    channel_order: Literal["RGB", "BGR", "GREY"] = "RGB"
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        sizes = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        counts = (1, _CHANNELS.get(str(self.channel_order), 1))
        numbers = f"a tuple of {' or '.join(map(str, sorted({1, max(counts)})))} finite numbers"
        checks = {
            "resize": (
                self.resize is None or (len(sizes) in (1, 2) and all(map(_is_side, sizes))),
                f"None, a side or (height, width), each from 1 to {_LONGEST_SIDE:,}",
            ),
            "crop": (
                self.crop is None or _is_side(self.crop),
                f"None or a side from 1 to {_LONGEST_SIDE:,}",
            ),
            "interpolation": (_is_one_of(self.interpolation, _WAYS), ", ".join(_WAYS)),
            "antialias": (type(self.antialias) is bool, "True, False"),
            "channel_order": (_is_one_of(self.channel_order, _CHANNELS), ", ".join(_CHANNELS)),
            "scale": (_are_numbers((self.scale,)), "a finite number"),
            "mean": (_are_numbers(self.mean) and len(self.mean) in counts, numbers),
            "std": (
                _are_numbers(self.std) and len(self.std) in counts and min(self.std) > 0,
                f"{numbers} above 0",
            ),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                value = str(getattr(self, name))[:80]
                order = f" for {self.channel_order} pictures" if name in ("mean", "std") else ""
                raise SpecError(f"preprocessing has {name}={value}{order}; allowed is {allowed}")

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, H, W) or (N, H, W, C), channels in `channel_order` -> float32 (N, C, H, W)."""
        images = pixels[..., np.newaxis] if pixels.ndim == 3 else pixels
        mean = np.asarray(self.mean, np.float32)
        std = np.asarray(self.std, np.float32)
        scaled = (images.astype(np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class ModelSpec:
    """A net as data: builder ('module:function'), JSON keyword arguments, inputs, classes."""

    builder: str
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    inputs: tuple[TensorSpec, ...] = ()
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = field(default_factory=Preprocess)

    @property
    def name(self) -> str:
        """The builder's function name: 'lenet5'; for an imported net its file's stem."""
        function = self.builder.rpartition(":")[2]
        return str(self.kwargs.get("name")) if function == "imported" else function

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the one input, batch first; nets with several are not supported."""
        if len(self.inputs) != 1:
            raise SpecError(f"{self.builder!r} has {len(self.inputs)} inputs; exactly 1 is needed")
        return self.inputs[0].shape

    def build(self) -> nn.Module:
        """The empty net, in eval mode; random where the builder initialises at random."""
        module_name, separator, function = self.builder.partition(":")
        if not separator:
            raise SpecError(f"builder {self.builder!r} is not of the form 'module:function'")
        try:
            module = importlib.import_module(module_name)
            builder = getattr(module, function)
            # Each of our builders has its specification beside it. What has none is a part of a
            # net, whose sizes nobody checks: a file could ask for a thousand million layers.
            if module_name.startswith(OWN_BUILDERS) and not hasattr(module, f"{function}_spec"):
                raise AttributeError(f"{function!r} is not one of its builders")
            net = builder(**self.kwargs)
        except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise SpecError(f"builder {self.builder!r} cannot build the net: {error}") from error
        if not hasattr(net, "state_dict"):
            raise SpecError(f"builder {self.builder!r} gives {type(net).__name__}, not a module")
        return cast("nn.Module", net).eval()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal specifications give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str, *, trusted: bool = False) -> ModelSpec:
        """Read `to_json`'s text. Builders outside compress.models are refused unless `trusted`."""
        try:
            raw = json.loads(text)
            spec = ModelSpec(
                builder=str(raw["builder"]),
                kwargs=dict(raw["kwargs"]),
                inputs=tuple(_tensor_spec(t) for t in raw["inputs"]),
                classes=tuple(str(c) for c in raw["classes"]),
                preprocess=preprocess_from_dict(raw["preprocess"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SpecError(f"model specification is damaged: {error!r}") from error
        if not trusted and not is_own(spec.builder):
            raise SpecError(
                f"file names builder {spec.builder!r}; a file may name only builders of "
                f"compress.models: hand the specification of your own net in (spec=...)"
            )
        return spec


def is_own(builder: str) -> bool:
    """True for 'compress.models.<file>:<function>' with plain public names only."""
    module, _, function = builder.partition(":")
    family = module.removeprefix(OWN_BUILDERS)
    plain = family.isidentifier() and function.isidentifier() and not function.startswith("_")
    return module.startswith(OWN_BUILDERS) and plain


def _tensor_spec(raw: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(n) for n in raw["shape"])
    if not all(1 <= n <= MAX_ELEMENTS for n in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise SpecError(f"input of shape {shape}; 1 to {MAX_ELEMENTS} elements are allowed")
    if raw["dtype"] != "float32" or raw["layout"] not in ("NCHW", "NHWC", "NC"):
        raise SpecError(f"input of type {raw['dtype']!r}, layout {raw['layout']!r}")
    return TensorSpec(str(raw["name"]), shape, "float32", raw["layout"])


def preprocess_from_dict(raw: Mapping[str, Any]) -> Preprocess:
    """The inverse of dataclasses.asdict, as JSON gives it; SpecError for what is no Preprocess."""
    names = {spec.name for spec in fields(Preprocess)}
    if set(raw) != names:
        raise SpecError(f"preprocessing has the fields {sorted(raw)}; needed are {sorted(names)}")
    values: dict[str, Any] = {
        k: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for k, v in raw.items()
    }
    return Preprocess(**values)


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LONGEST_SIDE


def _is_one_of(value: object, known: Collection[str]) -> bool:
    return isinstance(value, str) and value in known


def _are_numbers(values: object) -> bool:
    """Whether it is a tuple of finite numbers, which JSON and float32 can hold."""
    return isinstance(values, tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= _LARGEST
        for v in cast("tuple[object, ...]", values)
    )
