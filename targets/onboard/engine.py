"""Engines: a runtime on a processor. One file a runtime; found by a file's ending and a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class MissingRuntimeError(ImportError):
    """The runtime of the file cannot be imported; `package` is the one to install."""

    def __init__(self, package: str, reasons: Sequence[str]) -> None:
        what = " ".join("; ".join(reasons).split())
        super().__init__(f"{package} cannot be imported ({what}); install it")
        self.package = package


class Fed(NamedTuple):
    """A session with its input: `call` is one inference, to its very end.

    provider: what computes it. untimed: why its time is no latency, of a software adapter; None
    where it is one. more: what else there is to say of the session, for the answer.
    """

    call: Callable[[], object]
    provider: str
    untimed: str | None = None
    more: Mapping[str, Any] = {}


class Engine(NamedTuple):
    """An imported runtime: `load` opens a file with threads; `feed` gives the session its input.

    timed: the call that is timed, in words.
    """

    runtime: str
    version: str
    timed: str
    load: Callable[[str, int], Any]
    feed: Callable[[Any, np.random.Generator], Fed]


# (ending, engine): the module here with `engine(name) -> Engine`.
_MODULES: Mapping[tuple[str, str], str] = {
    (".onnx", "cpu"): "onnxruntime_cpu",
    (".tflite", "cpu"): "litert_cpu",
    (".tflite", "plain"): "litert_cpu",
}
ENGINES = tuple(dict.fromkeys(name for _, name in _MODULES))


def runs(name: str) -> tuple[str, ...]:
    """The endings of the files that the engine `name` runs."""
    return tuple(ending for ending, engine in _MODULES if engine == name)


def find(path: str, name: str) -> Engine:
    """The engine `name` for the file; imports its runtime.

    Raises ValueError where there is none, MissingRuntimeError where it is not installed.
    """
    ending = Path(path).suffix
    endings = sorted({known for known, _ in _MODULES})
    if ending not in endings:
        raise ValueError(f"{path} is neither {' nor '.join(endings)}")
    module = _MODULES.get((ending, name))
    if module is None:
        known = ", ".join(engine for known, engine in _MODULES if known == ending)
        raise ValueError(f"no engine {name!r} runs {ending} files; there are: {known}")
    found: Engine = importlib.import_module(f"{__package__}.{module}").engine(name)
    return found
