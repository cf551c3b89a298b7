"""Containers (.dc) in eager torch, the baseline: on the processor, or by CUDA.

The one module here that imports edgepress, which alone reads containers: it runs where edgepress
is installed, on `local`. The net computes in 32-bit floats from the container's weights; an int8
net's activations are not rounded. "torch-cuda" has answered on one GPU, and was not timed there.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Fed, MissingRuntimeError, Taken, Wanted
from .inputs import random_input
from .nvidia import described


class _Session(NamedTuple):
    """A torch module in eval mode on `device`, and its input's shape at batch 1."""

    torch: Any
    module: Any
    device: str
    shape: tuple[int, ...]

    def upload(self, values: NDArray[Any]) -> Any:
        return self.torch.from_numpy(values).to(self.device)

    def infer(self, given: Any) -> Any:
        with self.torch.inference_mode():
            found = self.module(given)
        if self.device != "cpu":
            self.torch.cuda.synchronize()
        return found


def engine(wanted: Wanted) -> Engine:
    """torch, with the reader of containers from `wanted.edgepress_path`. RuntimeError: no CUDA."""
    if wanted.edgepress_path is None:
        raise ValueError(f"the engine {wanted.name!r} needs edgepress itself: it runs on `local`")
    torch, containers = _import(wanted.edgepress_path)
    device = "cuda" if wanted.name == "torch-cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no CUDA device here")
    if device == "cuda":  # by itself cuDNN multiplies in TF32, with 10 bits of fraction
        torch.backends.cudnn.allow_tf32 = False

    def load(path: str, threads: int) -> _Session:
        torch.set_num_threads(threads)
        candidate = containers.load(Path(path))
        module = _moved(candidate.network.module(), device)
        return _Session(torch, module, device, (1, *candidate.spec.input_shape[1:]))

    timed = "module(input)" if device == "cpu" else "upload, module(input), download"
    return Engine("torch", str(torch.__version__), timed, load, _feed, _takes, _answer)


def _import(edgepress: str) -> tuple[Any, Any]:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # its threads sleep while they wait; read at import
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise MissingRuntimeError("torch", [str(error)]) from error
    if edgepress not in sys.path:
        sys.path.insert(0, edgepress)
    return torch, importlib.import_module("targets.formats.deep_compression")


def _moved(module: Any, device: str) -> Any:
    """A torch without CUDA fails an assertion, one without a driver raises RuntimeError."""
    try:
        return module.to(device)
    except (AssertionError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise RuntimeError(f"torch cannot move the net to {device}: {said}") from error


def _takes(session: _Session) -> Taken:
    return [(session.shape, np.dtype(np.float32))]


def _answer(session: _Session, value: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = session.infer(session.upload(value)).cpu().numpy()
    return found


def _feed(session: _Session, generator: np.random.Generator) -> Fed:
    values = random_input(generator, session.shape, np.dtype(np.float32))
    uploaded = session.upload(values)
    if session.device == "cpu":
        return Fed(lambda: session.infer(uploaded), "eager, CPU")
    return Fed(
        lambda: _answer(session, values),
        "eager, CUDA",
        resident=lambda: session.infer(uploaded),
        more=lambda: {"accelerator": described()},
    )
