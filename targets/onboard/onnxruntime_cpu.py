"""onnxruntime on the processor."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Fed, MissingRuntimeError, Taken, Wanted
from .inputs import fixed, random_input

_TYPES: Mapping[str, str] = {"float": "float32", "double": "float64"}


def engine(wanted: Wanted) -> Engine:
    """onnxruntime with its own kernels for the processor, the only engine here: "cpu"."""
    assert wanted.name == "cpu", wanted
    ort = import_onnxruntime()

    def load(path: str, threads: int) -> Any:
        options = session_options(ort, threads)
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    return Engine("onnxruntime", str(ort.__version__), "session.run", load, feed, takes, answer)


def import_onnxruntime() -> Any:
    """The module, telling errors alone; MissingRuntimeError."""
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingRuntimeError("onnxruntime", [str(error)]) from error
    ort.set_default_logger_severity(3)
    return ort


def session_options(ort: Any, threads: int) -> Any:
    """Threads that do not spin while they wait."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def takes(session: Any) -> Taken:
    """The inputs' shapes at batch 1, and their types."""
    return [(fixed(t.name, t.shape), _dtype(t)) for t in session.get_inputs()]


def answer(session: Any, value: NDArray[Any]) -> NDArray[Any]:
    """The first output for one input."""
    found: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: value})[0]
    return found


def feed(session: Any, generator: np.random.Generator) -> Fed:
    """A random picture for each input."""
    inputs, run = random_inputs(session, generator), session.run
    return Fed(lambda: run(None, inputs), str(session.get_providers()[0]))


def random_inputs(session: Any, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """By name, at batch 1."""
    names = [tensor.name for tensor in session.get_inputs()]
    values = [random_input(generator, shape, dtype) for shape, dtype in takes(session)]
    return dict(zip(names, values, strict=True))


def _dtype(tensor: Any) -> np.dtype[Any]:
    kind = str(tensor.type).removeprefix("tensor(").removesuffix(")")
    return np.dtype(_TYPES.get(kind, kind))
