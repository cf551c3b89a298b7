"""LiteRT, the runtime of .tflite files, by its package ai_edge_litert or the old tflite_runtime.

Imports numpy and the runtime only: a device that measures files needs no torch.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError, MissingExtraError, RangeError, one_line
from targets.files import read_bytes
from targets.runtimes.tflite_bounds import is_whole
from targets.runtimes.tflite_values import dequantized, is_real, quantized, tensor_spec

FloatArray = NDArray[np.float32]
IDENTIFIER = b"TFL3"
# What a part that a delegate took is called among the operators.
DELEGATES = ("DELEGATE", "TfLiteXNNPackDelegate")
# The resolvers of the engine's OpResolverType: with the XNNPACK delegate, and without.
_DELEGATED = "AUTO"
_PLAIN = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
_STDERR = 2
_turning = threading.Lock()


def litert_module(part: str, asker: str, extra: str = "litert") -> ModuleType:
    """ai_edge_litert.<part>; `interpreter` also from tflite_runtime where only that is there."""
    names = [f"ai_edge_litert.{part}"]
    if part == "interpreter":
        names.append(f"tflite_runtime.{part}")
    reasons: list[str] = []
    for name in names:
        try:
            return importlib.import_module(name)
        except (ImportError, AttributeError) as error:
            # AttributeError: tflite_runtime under numpy 2 fails so, late and obscurely.
            reasons.append(f"{name}: {error}")
    raise MissingExtraError(
        f"{asker} needs ai_edge_litert, which is not installed ({'; '.join(reasons)}); "
        f"run: pip install 'edgepress[{extra}]'"
    )


@dataclass(frozen=True)
class LiteRtRuntime:
    """The engine. `delegate` False runs the built-in kernels instead of XNNPACK's."""

    name: ClassVar[str] = "litert"
    formats: ClassVar[tuple[str, ...]] = ("tflite", "tflite-packed")

    delegate: bool = True

    def load(self, path: Path, threads: int = 1) -> LiteRtSession:
        """Open `path` with that many threads; DataError for what is missing, damaged, unknown."""
        return LiteRtSession(read_bytes(path, "a .tflite file"), str(path), threads, self.delegate)


def listed_operators(content: bytes, source: str) -> tuple[list[dict[str, Any]], str]:
    """(the operators of a file made ready to run, its delegate's behind them; the runtime's name).

    Each has `op_name`, and `inputs` and `outputs` by tensor. DataError as of `LiteRtRuntime.load`.
    """
    engine = _open(content, source, 1, _DELEGATED)
    package = type(engine).__module__.partition(".")[0]
    try:
        known = version(package.replace("_", "-"))
    except PackageNotFoundError:
        known = "of unknown version"
    return list(engine._get_ops_details()), f"{package} {known}"


class LiteRtSession:
    """A loaded .tflite file with one picture input, float32 or 8-bit, its batch fixed."""

    def __init__(
        self, content: bytes, source: str, threads: int = 1, delegate: bool = True
    ) -> None:
        self._content = content
        self._source = source
        self._threads = threads
        self._engine = _open(content, source, threads, _DELEGATED if delegate else _PLAIN)
        inputs, outputs = self._engine.get_input_details(), self._engine.get_output_details()
        self.inputs = tuple(tensor_spec(detail) for detail in inputs)
        self.outputs = tuple(tensor_spec(detail) for detail in outputs)
        if len(inputs) != 1:
            found = ", ".join(f"{i.name}: {i.dtype}{list(i.shape)}" for i in self.inputs) or "none"
            raise DataError(f"{source} has the inputs {found}; one picture input can be scored")
        self._input, self._output = inputs[0], outputs[0]
        kinds = {op["op_name"] for op in self._engine._get_ops_details()}
        self.provider = "XNNPACK" if kinds.intersection(DELEGATES) else "CPU"

    def predict(self, batch: FloatArray) -> FloatArray:
        """float32 (N, C, H, W) -> float32 (N, ...), the file's first output, dequantized."""
        return dequantized(self.predict_raw(batch), self._output)

    def predict_raw(self, batch: FloatArray) -> NDArray[Any]:
        """As `predict`, but the file's own output numbers: integers of an integer file."""
        index = self._output["index"]
        parts: list[NDArray[Any]] = []
        for feed in self.feeds(batch):
            self._run(self._engine, feed)
            parts.append(self._engine.get_tensor(index))
        if not parts:
            return np.zeros((0, *self._output["shape"][1:]), self._output["dtype"])
        return np.concatenate(parts)

    def tensors(self, batch: FloatArray) -> dict[str, FloatArray]:
        """Every activation tensor by the file's name, in execution order, the input first.

        Computed by the built-in kernels, which keep them all; integers come as the real values
        that they stand for. Layout is the file's (pictures NHWC). A name that repeats gets its
        tensor's number behind: 'relu', 'relu;12'.
        """
        values = self.tensors_by_index(batch)
        names = {d["index"]: str(d["name"]) for d in self._plain_details}
        repeats = Counter(names[index] for index in values)
        return {
            f"{names[i]};{i}" if repeats[names[i]] > 1 else names[i]: v for i, v in values.items()
        }

    def tensors_by_index(self, batch: FloatArray) -> dict[int, FloatArray]:
        """`tensors` by the tensor's number in the file's first subgraph."""
        engine = self._plain
        details = {d["index"]: d for d in self._plain_details}
        order = [self._input["index"]]
        for operator in engine._get_ops_details():
            order += [int(index) for index in operator["outputs"]]
        wanted = [i for i in dict.fromkeys(order) if i in details and is_real(details[i])]
        found: dict[int, list[FloatArray]] = {index: [] for index in wanted}
        for feed in self.feeds(batch):
            self._run(engine, feed)
            for index in wanted:
                value = dequantized(engine.get_tensor(index), details[index])
                found[index].append(np.atleast_1d(value))
        return {index: np.concatenate(parts) for index, parts in found.items() if parts}

    def _run(self, engine: Any, feed: NDArray[Any]) -> None:
        try:
            engine.set_tensor(self._input["index"], feed)
            engine.invoke()
        except (RuntimeError, ValueError) as error:
            raise DataError(f"LiteRT cannot run {self._source}: {one_line(error)}") from error

    @cached_property
    def _plain(self) -> Any:
        """A second engine that keeps all inner tensors, which the delegate does not."""
        return _open(self._content, self._source, self._threads, _PLAIN, keep=True)

    @cached_property
    def _plain_details(self) -> list[dict[str, Any]]:
        return list(self._plain.get_tensor_details())

    def feeds(self, batch: FloatArray) -> list[NDArray[Any]]:
        """The batch in the file's layout, type and batch size."""
        wanted = tuple(int(size) for size in self._input["shape"])
        given = np.asarray(batch, dtype=np.float32)
        if len(wanted) == 4 and given.ndim == 4:
            # A foreign file may be NCHW; only where its shape says so.
            last = (*given.shape[2:], given.shape[1])
            if last == wanted[1:] or given.shape[1:] != wanted[1:]:
                given = given.transpose(0, 2, 3, 1)
        if given.ndim != len(wanted) or given.shape[1:] != wanted[1:]:
            raise DataError(
                f"{self._source} takes an input of shape {wanted[1:]} ({self.inputs[0].layout}); "
                f"got pictures of shape {np.shape(batch)[1:]} (NCHW)"
            )
        size = wanted[0]
        if len(given) % size:
            raise DataError(f"{self._source} takes {size} pictures at a time; got {len(given)}")
        ready = np.ascontiguousarray(quantized(given, self._input))
        return [ready[start : start + size] for start in range(0, len(ready), size)]


def _open(content: bytes, source: str, threads: int, resolver: str, keep: bool = False) -> Any:
    """An Interpreter with its tensors allocated; DataError for a file it does not take."""
    if threads < 1:
        raise RangeError(f"{threads} threads: at least 1 is allowed")
    if content[4:8] != IDENTIFIER:
        raise DataError(f"{source} is no .tflite file: it does not say {IDENTIFIER.decode()}")
    if not is_whole(content):
        raise DataError(f"{source} is cut short or damaged; get the .tflite file anew")
    engine = litert_module("interpreter", "running a .tflite file")
    try:
        with _without_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = engine.Interpreter(
                model_content=content,
                num_threads=threads,
                experimental_op_resolver_type=engine.OpResolverType[resolver],
                experimental_preserve_all_tensors=keep,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise DataError(f"LiteRT cannot load {source}: {one_line(error)}") from error
    return interpreter


@contextmanager
def _without_stderr() -> Generator[None]:
    """Turn away what C code writes to standard error: 'Created TensorFlow Lite XNNPACK delegate'.

    The engine has no setting for it. Its errors still come as exceptions. One thread at a time:
    two that turned the descriptor could leave it turned.
    """
    with _turning:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # closed, as in a daemon: nobody reads it
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            os.close(nowhere)
