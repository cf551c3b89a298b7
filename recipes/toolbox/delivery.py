"""One file out of a candidate: written, compared with the candidate, scored on the test data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from targets.equivalence import assert_equivalent

from compress.candidate import Candidate
from compress.errors import EquivalenceError, ExportError
from compress.task import Task
from targets.artifact import Artifact, Exporter, Runtime
from targets.formats import deep_compression
from targets.formats.deep_compression import DeepCompressionExporter
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime

EXPORTERS: dict[str, Exporter] = {
    "onnx": OnnxExporter(),
    "tflite": TFLiteExporter(),
    "dc": DeepCompressionExporter(),
}
RUNTIMES: dict[str, Runtime] = {"onnx": OnnxRuntime(), "tflite": LiteRtRuntime()}
COMPARED_PICTURES = 16


@dataclass(frozen=True, eq=False)
class Delivery:
    """A file, what is in it, and for each test picture whether the file gets it right.

    `evaluated_sha256` names the file that was run for that: the file itself, or the .onnx that a
    container was decoded into. `right` is None where the task has no test data.
    """

    candidate: Candidate
    artifact: Artifact
    right: NDArray[np.bool_] | None
    evaluated_sha256: str

    @property
    def top1(self) -> float | None:
        return None if self.right is None else float(self.right.mean())


def deliver(
    candidate: Candidate, form: str, stem: Path, task: Task, known: Sequence[Delivery] = ()
) -> Delivery:
    """Write `stem` + the format's suffix, and check and score the very file.

    A file whose bytes are those of a `known` one is not scored again: test images are scored once.
    """
    if form not in EXPORTERS:
        raise ExportError(f"format {form!r} was asked for; there are {', '.join(EXPORTERS)}")
    exporter = EXPORTERS[form]
    artifact = exporter(candidate, stem.with_name(stem.name + exporter.suffix))
    runnable = artifact if form in RUNTIMES else _decoded(artifact, candidate)
    runtime = RUNTIMES[runnable.format]
    assert_equivalent(candidate, runnable, runtime, pictures(task))
    same = [d for d in known if d.evaluated_sha256 == runnable.sha256]
    right = None
    if same:
        right = same[0].right
    elif task.test is not None:
        right = task.test(runtime.load(runnable.path).predict)
    return Delivery(candidate, artifact, right, runnable.sha256)


def pictures(task: Task) -> NDArray[np.float32]:
    """A few real inputs to compare a file with its candidate on: the first of the calibration."""
    batches = task.need_calibration("comparing a file with its candidate")()
    kept: list[NDArray[np.float32]] = []
    for batch in batches:
        kept.append(batch)
        if sum(len(b) for b in kept) >= COMPARED_PICTURES:
            break
    return np.concatenate(kept)[:COMPARED_PICTURES]


def _decoded(artifact: Artifact, candidate: Candidate) -> Artifact:
    """The .onnx of the candidate that the container holds, which must be the one put in."""
    held = deep_compression.load(artifact.path, candidate.spec)
    if held.digest() != candidate.digest():
        raise EquivalenceError(
            f"{artifact.path} decodes to {held.digest()[:12]}, not to the candidate "
            f"{candidate.digest()[:12]} that was put in; this is a bug of edgepress: report it"
        )
    work = artifact.path.parent / "decoded"
    return OnnxExporter()(held, work / (artifact.path.name + ".onnx"))
