"""The compiled loops of the coders: numba's only import site. Without numba, arrays do the work.

numba comes with the extra `fast`. The loops give the same bytes and symbols as the arrays. They
are compiled at their first use on a large input (a second or two each) and kept beside the
package, or in the user's cache where that folder is read-only, so that later processes only load
them; where neither can be written they are compiled anew.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from compress.coding import loops, plane_loops, weight_loops

# Below this the arrays are done before the compiled code is loaded.
_WORTH = 1 << 16
# What loops call of their own: compiled code sees compiled functions only.
_CALLED = {
    "huffman_decode": ("swapped",),
    "plane_block": ("swapped",),
    "planes_decode": ("plane_block",),
    "bits_at": ("swapped",),
    "ends": ("bits_at",),
    "gamma_from": ("bits_at",),
    "lengths_from": ("bits_at", "ends", "gamma_from"),
    "code_from": ("lengths_from",),
    "weights_decode": ("plane_block", "code_from", "ends"),
}
_PLAIN: dict[str, Callable[..., Any]] = {
    name: function
    for module in (loops, plane_loops, weight_loops)
    for name, function in vars(module).items()
    if inspect.isfunction(function)
}
_started: set[str] = set()


def worth_it(count: int) -> bool:
    """Whether `count` symbols are to be coded by the compiled loops.

    Yes for many symbols, and for fewer once the loops are loaded; never without numba.
    """
    if count < _WORTH and not (_started and count >= 64):
        return False
    return _numba() is not None


def expect(count: int) -> None:
    """Say that `count` symbols are coming, in runs however short: they are worth the loops or not
    as one run of that many."""
    if worth_it(count):
        _started.add("")


def loaded() -> bool:
    """Whether a compiled loop was used before, so that another costs no waiting for numba."""
    return bool(_started)


def kernel(name: str) -> Callable[..., Any]:
    """The compiled form of the function `name` of loops.py. Only where `worth_it`."""
    _started.add(name)
    return _compiled(name)


@functools.cache
def _numba() -> Any | None:
    try:
        return importlib.import_module("numba")
    except ImportError:
        return None


@functools.cache
def _compiled(name: str) -> Callable[..., Any]:
    numba, function = _numba(), _PLAIN[name]
    assert numba is not None
    for called in _CALLED.get(name, ()):
        function.__globals__[called] = _compiled(called)
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder to write to
        return numba.njit(nogil=True)(function)
