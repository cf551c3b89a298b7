"""Choose layers by name (fnmatch) or role: 'depthwise', 'pointwise', 'conv', 'linear', ..."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import get_args

from compress.errors import RangeError
from compress.network import LayerInfo, Role


def select(
    layers: Sequence[LayerInfo], include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> tuple[LayerInfo, ...]:
    """Layers that match some pattern of `include` and none of `exclude`.

    A pattern is a layer name with wildcards ('features.*') or a role ('depthwise'). A pattern that
    matches nothing is a RangeError that lists the layers: a misspelt name must not pass silently.
    """
    for given in (include, exclude):
        if isinstance(given, str):  # its letters would be taken for patterns, '*' among them
            raise RangeError(f"layer patterns {given!r}: give a sequence, ({given!r},)")
    for pattern in (*include, *exclude):
        if pattern != "*" and not any(matches(layer, pattern) for layer in layers):
            names = ", ".join(layer.name for layer in layers)
            raise RangeError(f"layer pattern {pattern!r} matches nothing; the layers are: {names}")
    return tuple(
        layer
        for layer in layers
        if any(matches(layer, p) for p in include) and not any(matches(layer, p) for p in exclude)
    )


def matches(layer: LayerInfo, pattern: str) -> bool:
    """True where `pattern` is the layer's role or matches its name."""
    return pattern == layer.role or fnmatchcase(layer.name, pattern)


def exactly(name: str) -> str:
    """A pattern for the layer of this name alone: one called 'linear' is no role."""
    return f"[{name[0]}]{name[1:]}" if name in get_args(Role) else name
