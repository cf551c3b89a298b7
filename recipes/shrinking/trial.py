"""A rung tried: net made, files written, each file run on the pictures. One trial a file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from compress.candidate import Candidate
from compress.errors import EdgepressError, EquivalenceError
from compress.stage import Stage, run
from compress.stages.correct_bias import CorrectBias
from compress.stages.equalize_ranges import EqualizeRanges
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Batch, Task
from recipes.shrinking.answers import Classes, Original, answers_of
from recipes.shrinking.ladder import Rung, bits_by_layer
from recipes.shrinking.material import Material
from recipes.toolbox.delivery import EXPORTERS, RUNTIMES
from recipes.toolbox.progress import busy
from targets.artifact import Artifact
from targets.equivalence import assert_equivalent
from targets.formats.dc_unpack import unpack_onnx
from targets.formats.deep_compression import DeepCompressionExporter
from targets.rows import Score
from targets.runtimes.onnxruntime import OnnxRuntime

# The container brings its graph, so that decoding it needs no torch and no code of the net.
_EXPORTERS = {**EXPORTERS, "dc": DeepCompressionExporter(graph=True)}
# Pictures on which float outputs are compared.
COMPARED = 4


@dataclass(frozen=True, eq=False)
class Trial:
    """A file and its score; `ran` is the file that was run for it (a container's neighbour)."""

    rung: Rung
    candidate: Candidate
    artifact: Artifact
    ran: Artifact
    score: Score

    @property
    def runnable(self) -> bool:
        """Whether a stock runtime loads the file as it is."""
        return self.artifact.format in RUNTIMES


def task_of(material: Material) -> Task:
    """Calibration only: candidates are not scored, their files are."""
    return Task(evaluate=lambda _: {}, calibration=material.calibration, fingerprint="shrink")


def make(rung: Rung, start: Candidate, task: Task) -> Candidate:
    """The rung's net from that of the rung it starts from."""
    stages: list[Stage] = []
    if rung.quantize:
        # "mse": photographs have long thin tails.
        stages += [EqualizeRanges("loss"), CorrectBias(QuantizeInt8("mse"))]
    if rung.bits is not None:
        stages.append(ShareWeights(bits_by_layer(start.network.layers(), rung.bits)))
    with busy(f"making {rung.label}"):
        return run(start, stages, task)


@dataclass(frozen=True, eq=False)
class Bench:
    """Where files are written and what they are scored on."""

    folder: Path
    name: str
    material: Material
    original: Original

    def trial(self, rung: Rung, candidate: Candidate, form: str, beside: Trial | None) -> Trial:
        """Write `candidate` in one format, and run the file on the selection pictures.

        A container has the score of the file `beside` it, with which what it decodes to is
        compared bit by bit. An EdgepressError leaves no file behind.
        """
        exporter = _EXPORTERS[form]
        path = self.folder / f"{self.name}-{rung.label}{exporter.suffix}"
        try:
            with busy(f"writing {path.name}"):
                artifact = exporter(candidate, path)
            if form == "dc":
                if beside is None:
                    raise EquivalenceError(f"{path.name} has no file beside it to be judged by")
                self._compare_decoded(artifact, beside.artifact)
                return Trial(rung, candidate, artifact, beside.ran, beside.score)
            with busy(f"comparing {path.name} with its net"):
                self._compare(candidate, artifact)
            score = self.original.score(self.answers(artifact), artifact.sha256)
        except EdgepressError:
            path.unlink(missing_ok=True)
            raise
        return Trial(rung, candidate, artifact, artifact, score)

    def answers(self, artifact: Artifact) -> Classes:
        """The file's answers on the selection pictures."""
        session = RUNTIMES[artifact.format].load(artifact.path, torch.get_num_threads())
        what = f"scoring {artifact.path.name}"
        return answers_of(session.predict, self.material.selection, self.material.preprocess, what)

    def _few(self) -> Batch:
        return next(self.material.calibration())[:COMPARED]

    def _compare(self, candidate: Candidate, artifact: Artifact) -> None:
        """Float files must compute what their net computes; int8 files are judged by answers."""
        if not candidate.activations:
            assert_equivalent(candidate, artifact, RUNTIMES[artifact.format], self._few())

    def _compare_decoded(self, container: Artifact, neighbour: Artifact) -> None:
        with tempfile.TemporaryDirectory() as folder:
            decoded = Path(folder) / "decoded.onnx"
            unpack_onnx(container.path, decoded)
            found = OnnxRuntime().load(decoded).predict(self._few())
        expected = OnnxRuntime().load(neighbour.path).predict(self._few())
        if not np.array_equal(found, expected):
            raise EquivalenceError(
                f"{container.path.name} does not decode to what {neighbour.path.name} holds; this "
                f"is a bug of edgepress: report it"
            )
