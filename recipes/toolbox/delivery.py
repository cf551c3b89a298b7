"""One file out of a candidate: written, compared with the candidate, scored on the test data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.edit import FoldedBatchNorm
from compress.errors import EquivalenceError, ExportError, RecipeError
from compress.extras import need_installed
from compress.task import Task
from recipes.toolbox.progress import busy
from recipes.toolbox.recording import Recorder
from targets.artifact import Artifact, Exporter, Runtime
from targets.equivalence import assert_equivalent
from targets.formats import deep_compression
from targets.formats.deep_compression import DeepCompressionExporter, QuickExporter
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.formats.tflite import TFLiteExporter
from targets.formats.tflite_packed import TFLitePackedExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime

# Of one suffix there is one form a label: of an int8 net "onnx" is for x86, "onnx-arm" for ARM;
# "tflite" takes and gives integers, "tflite-float-io" floats.
EXPORTERS: dict[str, Exporter] = {
    "onnx": OnnxExporter(),
    "tflite": TFLiteExporter(),
    "dc": DeepCompressionExporter(),
    "dc-quick": QuickExporter(),
    "onnx-packed": OnnxPackedExporter(),
    "tflite-packed": TFLitePackedExporter(),
    "onnx-arm": OnnxExporter(activation_type="int8"),
    "tflite-float-io": TFLiteExporter(io="float32"),
}
RUNTIMES: dict[str, Runtime] = {
    "onnx": OnnxRuntime(),
    "onnx-arm": OnnxRuntime(),
    "onnx-packed": OnnxRuntime(),
    "tflite": LiteRtRuntime(),
    "tflite-float-io": LiteRtRuntime(),
    "tflite-packed": LiteRtRuntime(),
}
# The module that a format's exporter imports when it is called, and the extra that brings it.
EXTRAS: dict[str, tuple[str, str]] = {
    "tflite": ("litert_torch", "tflite"),
    "tflite-packed": ("litert_torch", "tflite"),
}
COMPARED_PICTURES = 16


@dataclass(frozen=True, eq=False)
class Delivery:
    """A file, what is in it, and for each test picture whether the file gets it right.

    `evaluated_sha256` names the file that was run for that: the file itself, or the .onnx that a
    container was decoded into. `answers`: its outputs there, (pictures, classes). `right` and
    `answers` are None where the task has no test data. `smaller`: what reports call the net, where
    it is a smaller one of the same family, uncompressed.
    """

    candidate: Candidate
    artifact: Artifact
    right: NDArray[np.bool_] | None
    evaluated_sha256: str
    answers: NDArray[np.float32] | None = None
    smaller: str | None = None

    @property
    def top1(self) -> float | None:
        return None if self.right is None else float(self.right.mean())


def deliver(
    candidate: Candidate, form: str, stem: Path, task: Task, known: Sequence[Delivery] = ()
) -> Delivery:
    """Write `stem` + the format's suffix, and check and score the very file.

    A file whose bytes are those of a `known` one is not scored again: test images are scored once.
    """
    exporter = exporter_of(form)
    path = stem.with_name(stem.name + exporter.suffix)
    with busy(f"writing {path.name}"):
        artifact = exporter(candidate, path)
        runnable = artifact if form in RUNTIMES else _decoded(artifact, candidate)
    runtime = RUNTIMES[runnable.format]
    with busy(f"comparing {path.name} with its candidate"):
        assert_equivalent(candidate, runnable, runtime, pictures(task))
    same = [d for d in known if d.evaluated_sha256 == runnable.sha256]
    right, answers = None, None
    if same:
        right, answers = same[0].right, same[0].answers
    elif task.test is not None:
        recorder = Recorder(runtime.load(runnable.path).predict)
        right = task.test(recorder)
        answers = recorder.answers()
    return Delivery(candidate, artifact, right, runnable.sha256, answers)


def exporter_of(form: str) -> Exporter:
    """The exporter of a format by its name, or ExportError naming those that there are."""
    if form not in EXPORTERS:
        raise ExportError(f"format {form!r} was asked for; there are {', '.join(EXPORTERS)}")
    return EXPORTERS[form]


def need_formats(formats: Sequence[str], asker: str) -> None:
    """Check, without importing anything heavy, that each format can be written here.

    Raises ExportError for an unknown one, MissingExtraError with the pip command.
    """
    for form in formats:
        written = exporter_of(form).format
        if written in EXTRAS:
            module, extra = EXTRAS[written]
            need_installed(module, extra, f"{asker} (for its .{written} files)")


def need_untouched(candidate: Candidate) -> None:
    """Check that the candidate is a dense fp32 net, its structure the original but for folding.

    Raises RecipeError: top-1, latency and size of a compressed net would stand for the fp32 one's.
    """
    found = _compressed(candidate)
    if found:
        raise RecipeError(
            f"the first delivery {found}, but every file is compared with the first; deliver the "
            f"untouched fp32 net first"
        )


def need_uncompressed(candidate: Candidate, smaller: str) -> None:
    """Check the same of the net that reports call `smaller`: it stands for one left as it is."""
    found = _compressed(candidate)
    if found:
        raise RecipeError(
            f"the smaller net {smaller} {found}, but stands for one left uncompressed; deliver it "
            f"as it was trained"
        )


def _compressed(candidate: Candidate) -> str:
    """'has fc1.weight encoded (stages: PruneMagnitude)'; '' for an untouched net."""
    edits = [e for e in candidate.edits if not isinstance(e, FoldedBatchNorm)]
    found = ""
    if candidate.activations:
        found = "has quantized activations"
    elif candidate.encodings:
        found = f"has {min(candidate.encodings)} encoded"
    elif edits:
        found = f"is changed by {type(edits[0]).__name__}"
    stages = ", ".join(step.stage for step in candidate.history) or "none recorded"
    return found and f"{found} (stages: {stages})"


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
