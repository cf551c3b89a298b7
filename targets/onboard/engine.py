"""Engines: a runtime on a processor. One file a runtime; found by a file's ending and a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class MissingRuntimeError(ImportError):
    """The runtime of the file cannot be imported; `package` is the one to install."""

    def __init__(self, package: str, reasons: Sequence[str]) -> None:
        what = " ".join("; ".join(reasons).split())
        super().__init__(f"{package} cannot be imported ({what}); install it")
        self.package = package


class Wanted(NamedTuple):
    """Which engine is asked for. software_gpu: an adapter that is a program may compute, for its
    outputs. edgepress_path: the folder of our own packages, for the one engine that needs them.
    """

    name: str = "cpu"
    software_gpu: bool = False
    edgepress_path: str | None = None

    @staticmethod
    def of(request: Mapping[str, Any]) -> Wanted:
        """From the fields of a request, all of them there."""
        path = request["edgepress_path"]
        return Wanted(
            str(request["engine"]),
            bool(request["software_gpu"]),
            None if path is None else str(path),
        )


class Fed(NamedTuple):
    """A session with its input: `call` is one inference, to its very end.

    provider: what computes it. untimed: why its time is no latency, of a software adapter; None
    where it is one. resident: the same inference, its input in the accelerator's memory already.
    more: what else there is to say of the session, for the answer; asked after the times.
    """

    call: Callable[[], object]
    provider: str
    untimed: str | None = None
    resident: Callable[[], object] | None = None
    more: Callable[[], Mapping[str, Any]] = dict[str, Any]


Taken = list[tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape, at batch 1, and type of each input."""


class Engine(NamedTuple):
    """An imported runtime: `load` opens a file with threads; `feed` gives the session its input.

    timed: the call that is timed, in words. takes: the session's inputs. answer: the first output
    for one input.
    """

    runtime: str
    version: str
    timed: str
    load: Callable[[str, int], Any]
    feed: Callable[[Any, np.random.Generator], Fed]
    takes: Callable[[Any], Taken]
    answer: Callable[[Any, NDArray[Any]], NDArray[Any]]


# (ending, engine): the module here with `engine(wanted) -> Engine`.
_MODULES: Mapping[tuple[str, str], str] = {
    (".onnx", "cpu"): "onnxruntime_cpu",
    (".tflite", "cpu"): "litert_cpu",
    (".tflite", "plain"): "litert_cpu",
    (".onnx", "webgpu"): "webgpu_onnxruntime",
    (".tflite", "webgpu"): "webgpu_litert",
    (".tflite", "webgpu-fp16"): "webgpu_litert",
    (".onnx", "cuda"): "cuda_onnxruntime",
    (".onnx", "tensorrt"): "cuda_onnxruntime",
    (".dc", "torch"): "torch_eager",
    (".dc", "torch-cuda"): "torch_eager",
}
ENGINES = tuple(dict.fromkeys(name for _, name in _MODULES))


def runs(name: str) -> tuple[str, ...]:
    """The endings of the files that the engine `name` runs."""
    return tuple(ending for ending, engine in _MODULES if engine == name)


def find(path: str, wanted: Wanted) -> Engine:
    """The engine that is wanted, for the file; imports its runtime.

    Raises ValueError where there is none, MissingRuntimeError where it is not installed.
    """
    ending = Path(path).suffix
    endings = sorted({known for known, _ in _MODULES})
    if ending not in endings:
        raise ValueError(f"{path} is neither {' nor '.join(endings)}")
    module = _MODULES.get((ending, wanted.name))
    if module is None:
        known = ", ".join(engine for known, engine in _MODULES if known == ending)
        raise ValueError(f"no engine {wanted.name!r} runs {ending} files; there are: {known}")
    found: Engine = importlib.import_module(f"{__package__}.{module}").engine(wanted)
    return found
