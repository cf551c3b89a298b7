"""What stages share: which layers they work on, with which setting, and how a net is rebuilt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.edit import Edit, rebuild
from compress.encoding import Encoding
from compress.errors import RangeError
from compress.network import LayerInfo, TorchNetwork, load_state
from compress.select import matches, select

Setting = TypeVar("Setting", int, float, str)


def check_patterns(stage: str, **fields: object) -> None:
    """Each field must be a tuple of strings: a bare string would be read letter by letter."""
    for name, value in fields.items():
        items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else None
        if items is None or not all(isinstance(item, str) for item in items):
            raise RangeError(
                f"{stage}({name}={value!r}): a tuple of layer patterns is needed, "
                f"as in {name}=('features.*', 'depthwise')"
            )


def check_pairs(stage: str, name: str, setting: object) -> None:
    """A setting by layer must be a non-empty tuple of (pattern, number) pairs."""
    pairs = cast("tuple[Any, ...]", setting) if isinstance(setting, tuple) else ()
    fit = [
        isinstance(p, tuple) and len(cast("tuple[Any, ...]", p)) == 2 and isinstance(p[0], str)
        for p in pairs
    ]
    if not pairs or not all(fit):
        raise RangeError(
            f"{stage}({name}={setting!r}): one number or a tuple of (pattern, number) pairs is "
            f"needed, as in {name}=(('conv*', 4), ('linear', 6))"
        )


def numbers(setting: object) -> tuple[object, ...]:
    """The numbers of a setting: itself, or those of its (pattern, number) pairs."""
    if isinstance(setting, tuple):
        return tuple(pair[1] for pair in cast("tuple[tuple[str, object], ...]", setting))
    return (setting,)


def check_grid_bits(stage: str, name: str, setting: object) -> None:
    """RangeError for anything but 8, 4 or a tuple of (pattern, 8 or 4) pairs."""
    if type(setting) is not int:
        check_pairs(stage, name, setting)
    for value in numbers(setting):
        if type(value) is not int or value not in (4, 8):
            raise RangeError(f"{stage}({name}={value!r}): allowed are 8 and 4")


def choose(
    candidate: Candidate, include: Sequence[str], exclude: Sequence[str]
) -> tuple[tuple[LayerInfo, ...], list[Skipped]]:
    """(layers to work on, layers left alone and why). Tied weights belong to their first name."""
    layers = candidate.network.layers()
    own = candidate.network.parameters()
    wanted = {layer.name for layer in select(layers, include, exclude)}
    chosen: list[LayerInfo] = []
    skipped: list[Skipped] = []
    for layer in layers:
        if layer.name not in wanted:
            skipped.append(Skipped(layer.name, "left out by include and exclude"))
        elif layer.weight not in own:
            skipped.append(Skipped(layer.name, "its weight is another layer's, too"))
        else:
            chosen.append(layer)
    return tuple(chosen), skipped


def settings_by_layer(
    layers: Sequence[LayerInfo], setting: Setting | tuple[tuple[str, Setting], ...]
) -> dict[str, Setting]:
    """The setting of each layer by name; of several (pattern, setting) pairs the first that fits.

    Layers that no pattern names are absent. A pattern that matches nothing is a RangeError.
    """
    if not isinstance(setting, tuple):
        return {layer.name: setting for layer in layers}
    select(layers, tuple(pattern for pattern, _ in setting))
    found: dict[str, Setting] = {}
    for layer in layers:
        fitting = [value for pattern, value in setting if matches(layer, pattern)]
        if fitting:
            found[layer.name] = fitting[0]
    return found


def rebuilt(
    candidate: Candidate,
    edits: Iterable[Edit],
    state: Mapping[str, NDArray[np.generic]],
    encodings: Mapping[str, Encoding],
) -> Candidate:
    """The candidate after further `edits`, with all its tensors and encodings given anew."""
    everything = (*candidate.edits, *edits)
    model = rebuild(candidate.spec, everything)
    load_state(model, state, "the edited net")
    network = TorchNetwork(model, candidate.network.input_shape, own=True)
    return replace(candidate, network=network, edits=everything, encodings=encodings)
