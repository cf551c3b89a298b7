"""LiteRT on a GPU of any maker, by the WebGPU accelerator in its own package.

"webgpu" computes in 32-bit floats, "webgpu-fp16" in 16-bit ones, LiteRT's own default; SwiftShader
computes both alike. Tried on software Vulkan and on an H100.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Fed, MissingRuntimeError, Taken, Wanted
from .inputs import fixed, random_input
from .litert_cpu import version_of
from .vulkan import Adapter, visible

_PACKAGE = "ai_edge_litert"
_STDERR = 2
_PATIENCE_S = 20
# What the accelerator logs; its Python tells neither.
_SELECTED = re.compile(r"Selected adapter: (.+?), arch=.*adapterType=(.+)")
_REFUSED = re.compile(
    r"not supported by GPU delegate:\n(.+?)\n"
    r"(\d+) operations will run on the GPU, and the remaining (\d+)",
    re.DOTALL,
)
_HOST_MEMORY = 1  # LiteRT's kLiteRtTensorBufferTypeHostMemory


@dataclass(frozen=True)
class _Session:
    """A compiled model with its buffers, made once."""

    model: Any
    inputs: list[Any]
    outputs: list[Any]
    taken: tuple[Mapping[str, Any], ...]
    given: tuple[Mapping[str, Any], ...]
    adapter: Adapter | None

    def run(self) -> NDArray[Any]:
        """The first output. `run_by_index` may return before the GPU is done; reading waits."""
        self.model.run_by_index(0, self.inputs, self.outputs)
        read = [
            buffer.read(int(np.prod(about["shape"])), np.dtype(about["dtype"]))
            for buffer, about in zip(self.outputs, self.given, strict=True)
        ]
        found: NDArray[Any] = read[0].reshape(self.given[0]["shape"])
        return found


def engine(wanted: Wanted) -> Engine:
    """CompiledModel with the GPU alone: what it does not take over is refused, never split."""
    module = _import()
    shown = visible(wanted.software_gpu)

    def load(path: str, threads: int) -> _Session:
        del threads  # of the processor
        session, said = _load(module, path, wanted)
        return replace(session, adapter=_adapter(said, wanted) or shown)

    timed = "write, run_by_index, read: upload, inference, download"
    return Engine(_PACKAGE, version_of(_PACKAGE), timed, load, _feed, _takes, _answer)


def _import() -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.compiled_model")
    except (ImportError, AttributeError) as error:
        raise MissingRuntimeError(_PACKAGE, [str(error)]) from error


def _load(module: Any, path: str, wanted: Wanted) -> tuple[_Session, str]:
    """The session, its adapter not known yet, and what was logged meanwhile."""
    gpu = module.GpuOptions(enforce_f32=wanted.name == "webgpu")
    accelerators = module.HardwareAccelerator.GPU
    options = module.Options(hardware_accelerators=accelerators, gpu_options=gpu)
    said: list[str] = []
    try:
        with _said() as said:
            model = module.CompiledModel.from_file(path, options=options)
    except RuntimeError as error:
        raise RuntimeError(_refusal("".join(said), error)) from error
    if not model.is_fully_accelerated():
        raise RuntimeError("LiteRT left operations to the processor; nothing was measured")
    taken, given = _details(model)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    return _Session(model, inputs, outputs, taken, given, None), "".join(said)


def _details(model: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Of the inputs and the outputs of the first signature, in the order of the buffers."""
    key, names = next(iter(model.get_signature_list().items()))
    taken, given = model.get_input_tensor_details(key), model.get_output_tensor_details(key)
    return tuple(taken[n] for n in names["inputs"]), tuple(given[n] for n in names["outputs"])


@contextmanager
def _said() -> Generator[list[str]]:
    """What native code writes to stderr meanwhile, in the list at the end; empty without `tee`.

    A process of its own passes it on, so that it is not lost where native code crashes: LiteRT's
    does on some of the files that it refuses.
    """
    said: list[str] = []
    program = shutil.which("tee")
    if program is None:
        yield said
        return
    kept = os.dup(_STDERR)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        tee = subprocess.Popen([program, str(log)], stdin=subprocess.PIPE, stdout=kept)
        assert tee.stdin is not None
        os.dup2(tee.stdin.fileno(), _STDERR)
        try:
            yield said
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            tee.communicate(timeout=_PATIENCE_S)
            said.append(log.read_text("utf-8", "replace"))


def _refusal(said: str, error: Exception) -> str:
    """One line: which operations, and how many; else what the error says."""
    found = _REFUSED.search(said)
    if found is not None:
        refused, on_gpu, remaining = found.groups()
        kinds = _first_of_each(refused.splitlines())
        return (
            f"LiteRT's GPU accelerator refuses the file: of {int(on_gpu) + int(remaining)} "
            f"operations {remaining} would run on the processor ({kinds})"
        )
    return f"LiteRT's GPU accelerator refuses the file: {' '.join(str(error).split())[:400]}"


def _first_of_each(lines: list[str]) -> str:
    """'RESHAPE: Tensor dimensions ...' of each kind of operator once, in one line."""
    first = {line.partition(":")[0]: line for line in reversed(lines)}
    return "; ".join(dict.fromkeys(first[line.partition(":")[0]] for line in lines))[:400]


def _adapter(said: str, wanted: Wanted) -> Adapter | None:
    """The adapter that was selected; None: not told. RuntimeError for a program not allowed."""
    selected = _SELECTED.search(said)
    if selected is None:
        return None
    name, kind = selected.groups()
    adapter = Adapter(name, "CPU" in kind or "Software" in kind)
    if adapter.software and not wanted.software_gpu:
        raise RuntimeError(f"LiteRT chose {name}, a program on the processor; allow it or hide it")
    return adapter


def _takes(session: _Session) -> Taken:
    return [
        (fixed(about["name"], about["shape"]), np.dtype(about["dtype"])) for about in session.taken
    ]


def _answer(session: _Session, value: NDArray[Any]) -> NDArray[Any]:
    session.inputs[0].write(value)
    return session.run()


def _feed(session: _Session, generator: np.random.Generator) -> Fed:
    values = [random_input(generator, shape, dtype) for shape, dtype in _takes(session)]

    def write() -> None:
        for buffer, array in zip(session.inputs, values, strict=True):
            buffer.write(array)

    def call() -> None:
        write()
        session.run()

    write()
    name = None if session.adapter is None else session.adapter.name
    return Fed(
        call,
        "WebGPU",
        _untimed(session.adapter),
        session.run if _on_gpu(session) else None,
        lambda: {"accelerator": {"adapter": name, "cpu_nodes": {}, "copies": None}},
    )


def _untimed(adapter: Adapter | None) -> str | None:
    if adapter is None:  # without a word of it nothing is known to have been a GPU's
        return "LiteRT does not tell which adapter computed"
    return f"software adapter {adapter.name}" if adapter.software else None


def _on_gpu(session: _Session) -> bool:
    """Whether the inputs' buffers are the GPU's; integers' lie in the host's memory."""
    wanted = [session.model.get_input_buffer_requirements(i) for i in range(len(session.inputs))]
    return all(_HOST_MEMORY not in each["supported_types"] for each in wanted)
