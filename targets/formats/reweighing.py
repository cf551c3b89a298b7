"""The same net with other weights: a converter's output, its weights put in place.

torch's and LiteRT's converters take seconds for a net, however often they have converted it. What
they write depends on the weights in the weights' own bytes only. So those are looked for in what
was written, and another candidate of the same net has its own put there. Where they are not found
whole, once each, the converter is called again.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate

FloatArray = NDArray[np.float32]
# How a converter may turn a weight: as it is, channels last, depthwise channels last, transposed.
_TURNS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((0, 1), (1, 0)),
    4: ((0, 1, 2, 3), (0, 2, 3, 1), (1, 2, 3, 0)),
}


@dataclass(frozen=True)
class _Place:
    start: int
    turn: tuple[int, ...]


@dataclass(frozen=True)
class _Written:
    content: bytes
    places: Mapping[str, _Place]


# A command works on one net, and a file's worth of memory by format is enough.
KEPT_BY_FORM = 1
# The last nets by format and structure, the oldest first.
_last: dict[tuple[str, str], _Written] = {}


def reweighed(candidate: Candidate, form: str, convert: Callable[[], bytes]) -> bytes:
    """`convert()`, or what it would give, from what it gave for another candidate of this net.

    `form`: the format and every option that `convert` depends on.
    """
    parameters = candidate.network.parameters()
    key = form, _structure(candidate)
    known = _last.get(key)
    if known is not None and _differ(parameters):
        return _filled(known, parameters)
    content = convert()
    places = _places(content, parameters)
    if places is not None:
        _keep(key, _Written(content, places))
    return content


def _keep(key: tuple[str, str], written: _Written) -> None:
    _last.pop(key, None)
    _last[key] = written
    of_form = [other for other in _last if other[0] == key[0]]
    for other in of_form[:-KEPT_BY_FORM]:
        del _last[other]


def _structure(candidate: Candidate) -> str:
    """A digest of all that a converter sees of the net but its parameters' values."""
    program = candidate.network.graph.program
    told = hashlib.sha256(program.code.encode())
    told.update(repr((candidate.spec.inputs, candidate.edits)).encode())
    own = candidate.network.parameters()
    for target in sorted({str(n.target) for n in program.graph.nodes if n.op == "get_attr"}):
        values: torch.Tensor = attrgetter(target)(program)
        told.update(f"{target} {values.dtype} {tuple(values.shape)}".encode())
        if target not in own:
            told.update(values.detach().contiguous().numpy().tobytes())
    return told.hexdigest()


def _differ(parameters: Mapping[str, FloatArray]) -> bool:
    """True where no two parameters are equal: converters write equal ones once."""
    seen = {(array.shape, array.tobytes()) for array in parameters.values()}
    return len(seen) == len(parameters)


def _places(content: bytes, parameters: Mapping[str, FloatArray]) -> dict[str, _Place] | None:
    """Where each parameter stands in `content`; None unless each stands there just once."""
    found: dict[str, _Place] = {}
    for name, array in parameters.items():
        place = _place(content, array)
        if place is None:
            return None
        found[name] = place
    spans = sorted((p.start, p.start + parameters[n].nbytes) for n, p in found.items())
    apart = all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    return found if apart else None


def _place(content: bytes, array: FloatArray) -> _Place | None:
    turns = _TURNS.get(array.ndim, (tuple(range(array.ndim)),))
    forms = {turn: array.transpose(turn).tobytes() for turn in turns}
    # Axes of length one make some turns the same; those that differ in bytes may not both fit.
    found: dict[int, tuple[int, ...]] = {}
    for turn, form in forms.items():
        start = content.find(form)
        if start >= 0:
            if content.find(form, start + 1) >= 0:
                return None
            found.setdefault(start, turn)
    if len(found) != 1:
        return None
    start, turn = next(iter(found.items()))
    return _Place(start, turn)


def _filled(written: _Written, parameters: Mapping[str, FloatArray]) -> bytes:
    content = bytearray(written.content)
    for name, place in written.places.items():
        data = parameters[name].transpose(place.turn).tobytes()
        content[place.start : place.start + len(data)] = data
    return bytes(content)
