"""Artifact: a file that was written, named by what is in it; and what writes and runs one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.encoding import Encoded, Encoding, full_grid_bits
from compress.spec import TensorSpec

if TYPE_CHECKING:
    from compress.candidate import Candidate

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Artifact:
    """One written file. `candidate_digest` ties it to the candidate that it holds."""

    path: Path
    format: str
    precision: str
    sha256: str
    size_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    candidate_digest: str


class Exporter(Protocol):
    """Writes a candidate in one format; a frozen dataclass whose fields are its options."""

    format: ClassVar[str]
    suffix: ClassVar[str]

    def __call__(self, candidate: Candidate, path: Path) -> Artifact: ...


class Session(Protocol):
    """A loaded file. Pictures go in as float32 (N, C, H, W) whatever the file's layout or type."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    provider: str

    def predict(self, batch: FloatArray) -> FloatArray: ...
    def tensors(self, batch: FloatArray) -> Mapping[str, FloatArray]: ...


class Runtime(Protocol):
    """An engine. `load` gives a session with that many threads."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]

    def load(self, path: Path, threads: int = 1) -> Session: ...


def artifact_of(
    exporter: Exporter,
    candidate: Candidate,
    path: Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> Artifact:
    """The Artifact of the file that `exporter` has just written; hash and size are the file's."""
    return Artifact(
        path=path,
        format=exporter.format,
        precision=precision_of(candidate),
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        inputs=inputs,
        outputs=outputs,
        candidate_digest=candidate.digest(),
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def precision_of(candidate: Candidate) -> str:
    """What the net computes with, in whatever form a file stores it.

    Where activations are quantized by the layers' weights: 'int8', 'int4' (all on the grid of 16
    codes), 'mixed' (both, or some layers in float). Else 'shared' or 'pruned' by encodings, 'fp32'.
    """
    if candidate.activations:
        layers = candidate.network.layers()
        return joint_precision({_weights(candidate.encodings.get(one.weight)) for one in layers})
    kinds = {type(e).__name__ for e in candidate.encodings.values()}
    return "shared" if "Encoded" in kinds else "pruned" if "Masked" in kinds else "fp32"


def joint_precision(weights: Set[str]) -> str:
    """Of a net on grids whose layers' weights are 'int8', 'int4' or 'fp32'."""
    return next(iter(weights)) if len(weights) == 1 and "fp32" not in weights else "mixed"


def _weights(encoding: Encoding | None) -> str:
    if not isinstance(encoding, Encoded) or not encoding.on_integers:
        return "fp32"
    return "int4" if full_grid_bits(encoding.codebook) == 4 else "int8"
