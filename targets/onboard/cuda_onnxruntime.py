"""onnxruntime on NVIDIA's GPUs: its CUDA provider, or TensorRT with CUDA behind it.

Needs onnxruntime-gpu in the place of onnxruntime, never both. CUDA has run on an H100; TensorRT was
tried with stand-ins only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .engine import Engine, Fed, MissingRuntimeError, Wanted
from .nvidia import described
from .onnxruntime_cpu import answer, import_onnxruntime, random_inputs, session_options, takes
from .onnxruntime_placement import placement, refuse_fallback, refuse_idle
from .onnxruntime_resident import Place, resident

# What TensorRT does not take goes to CUDA, as its documentation advises.
_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
# By itself CUDA multiplies in TF32, with 10 bits of fraction: an int8 SqueezeNet's outputs were 1.3
# of 14 off by it, and 1 of 8 first classes another; in whole floats 0.26, and none.
_SETTINGS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
_PACKAGE = "onnxruntime-gpu"
# In what onnxruntime says where TensorRT's libraries are missing.
_NO_TENSORRT = ("libnvinfer", "install TensorRT")


class _Session(NamedTuple):
    """onnxruntime's own, and what tells where its nodes went."""

    own: Any
    place: Callable[[], Mapping[str, Any]]


def engine(wanted: Wanted) -> Engine:
    """The provider by the engine's name. MissingRuntimeError where this onnxruntime has none."""
    providers = _PROVIDERS[wanted.name]
    ort = import_onnxruntime()
    there = list(ort.get_available_providers())
    if providers[0] not in there:
        raise MissingRuntimeError(
            _PACKAGE,
            [
                f"this onnxruntime {ort.__version__} has {', '.join(there)} and not {providers[0]}",
                "the two are never installed together: first pip uninstall onnxruntime",
            ],
        )
    if hasattr(ort, "preload_dlls"):  # 1.21 and later: CUDA's libraries out of pip's packages
        ort.preload_dlls()

    def opened(path: str, options: Any) -> Any:
        asked = [(name, _SETTINGS.get(name, {})) for name in providers]
        try:
            session = ort.InferenceSession(path, options, providers=asked, enable_fallback=0)
        except Exception as error:  # onnxruntime's own kinds, some of them private
            if wanted.name == "tensorrt" and any(word in str(error) for word in _NO_TENSORRT):
                raise MissingRuntimeError("tensorrt", ["its libraries are not found"]) from error
            raise
        refuse_fallback(session, providers[0], " (are CUDA, cuDNN and TensorRT installed?)")
        return session

    def load(path: str, threads: int) -> _Session:
        session = opened(path, session_options(ort, threads))
        options = session_options(ort, threads)
        return _Session(session, lambda: placement(options, lambda o: opened(path, o)))

    return Engine(
        "onnxruntime",
        str(ort.__version__),
        "session.run: upload, inference, download",
        load,
        lambda session, generator: _fed(ort, session, generator, providers),
        lambda session: takes(session.own),
        lambda session, value: answer(session.own, value),
    )


def _fed(
    ort: Any, session: _Session, generator: np.random.Generator, providers: tuple[str, ...]
) -> Fed:
    """The resident call leaves its output on the GPU: onnxruntime waits for CUDA itself."""
    inputs, run = random_inputs(session.own, generator), session.own.run

    def more() -> dict[str, Any]:
        placed = session.place()
        refuse_idle(placed, providers)
        return {"accelerator": {**described(), **placed}}

    here = Place("cuda")
    call = resident(ort, session.own, inputs, here, here)
    return Fed(lambda: run(None, inputs), providers[0], None, call, more)
