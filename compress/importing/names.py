"""Readable, legal and unique module names for layers that a file names in its own way."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection

from torch import fx, nn

_TORCH_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*\.(weight|kernel|gamma)")
_ILLEGAL = re.compile(r"\W+", re.ASCII)
# Attributes that every module has: a child of that name would never be found.
_TAKEN = frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))


def layer_name(weight: str, node: str, kind: str, taken: Collection[str]) -> str:
    """A dotted module path for a layer: 'features.0.0' of a weight 'features.0.0.weight'.

    A weight without such a name gives way to that of the node, without exporters' repetitions:
    '/features/features.0/features.0.0/Conv' is 'features.0.0', too. `kind` is the operator, which
    names what has no name; `taken` are the paths of other layers.
    """
    own = _TORCH_NAME.fullmatch(weight)
    path = weight.rpartition(".")[0] if own else _of_node(node, kind)
    parts = [legal(part) for part in path.split(".")]
    return _unique([part for part in parts if part] or [kind.lower()], taken)


def legal(text: str) -> str:
    """`text` as one part of a module path, '' where nothing of it is left."""
    part = _ILLEGAL.sub("_", text).strip("_")
    return f"{part}_" if keyword.iskeyword(part) or part in _TAKEN else part


def _of_node(node: str, kind: str) -> str:
    """'/a/a.0/b/Conv_1' -> 'a.0.b': each part goes on where the one before it stopped."""
    parts = [part for part in re.split(r"[/:]+", node) if part]
    if len(parts) > 1 and re.fullmatch(rf"{kind}(_\d+)?", parts[-1]):
        parts.pop()
    chunks: list[str] = []
    for part in parts:
        if chunks and (part == chunks[-1] or part.startswith(f"{chunks[-1]}.")):
            chunks[-1] = part
        else:
            chunks.append(part)
    return ".".join(chunks)


def _unique(parts: list[str], taken: Collection[str]) -> str:
    """The path, with a number where another layer is there, above it or below it."""
    path = ".".join(parts)
    if any(other.startswith(f"{path}.") or path.startswith(f"{other}.") for other in taken):
        path = "_".join(parts)
    number, free = 1, path
    while free in taken or any(other.startswith(f"{free}.") for other in taken):
        number, free = number + 1, f"{path}_{number + 1}"
    return free
