"""onnxruntime on the processor."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Fed, MissingRuntimeError
from .inputs import fixed, random_input

_TYPES: Mapping[str, str] = {"float": "float32", "double": "float64"}


def engine(name: str) -> Engine:
    """onnxruntime with its own kernels for the processor, the only `name` here: "cpu"."""
    assert name == "cpu", name
    ort = import_onnxruntime()

    def load(path: str, threads: int) -> Any:
        options = session_options(ort, threads)
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    return Engine("onnxruntime", str(ort.__version__), "session.run", load, feed)


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


def feed(session: Any, generator: np.random.Generator) -> Fed:
    """A random picture for each input."""
    inputs: dict[str, NDArray[np.generic]] = {}
    for tensor in session.get_inputs():
        kind = str(tensor.type).removeprefix("tensor(").removesuffix(")")
        shape = fixed(tensor.name, tensor.shape)
        inputs[tensor.name] = random_input(generator, shape, np.dtype(_TYPES.get(kind, kind)))
    run = session.run
    return Fed(lambda: run(None, inputs), str(session.get_providers()[0]))
