"""The files of a plan: really written, weighed and timed, each net's and format's once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from compress.candidate import Candidate
from compress.errors import ExportError
from recipes.toolbox.delivery import exporter_of
from recipes.toolbox.progress import busy, counted_bar
from targets.artifact import Artifact
from targets.bench import RUNNABLE, benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Target
from targets.measurement import Plan as Timing
from targets.planning.plan import Figures
from targets.planning.speed import Engine
from targets.sizing.downloads import zip_bytes

# Three processes a file: enough to see 5 % on a quiet machine, in a second or two each.
QUICK = Timing(runs=30, rounds=3, warmup_s=0.2, max_s=0.3)
_ENGINES: dict[str, Engine] = {".onnx": "onnxruntime", ".tflite": "litert"}


def engine_of(form: str) -> Engine | None:
    """What runs a file of this format; None for a container."""
    return _ENGINES.get(Path(f"net{exporter_of(form).suffix}").suffix)


@dataclass(eq=False)
class Files:
    """`folder` is a temporary one."""

    folder: Path
    timing: Timing = QUICK
    _written: dict[tuple[str, str], Artifact | ExportError] = field(
        default_factory=dict[tuple[str, str], "Artifact | ExportError"]
    )
    _measured: dict[str, Measurement] = field(default_factory=dict[str, Measurement])
    _figures: dict[str, Figures] = field(default_factory=dict[str, Figures])

    def write(self, candidate: Candidate, form: str) -> Artifact | ExportError:
        """The file, or why there is none."""
        key = candidate.digest(), form
        if key not in self._written:
            exporter = exporter_of(form)
            path = self.folder / f"{key[0][:16]}-{form}{exporter.suffix}"
            with busy(f"writing {candidate.spec.name} as {form}"):
                try:
                    self._written[key] = exporter(candidate, path)
                except ExportError as error:
                    self._written[key] = error
        return self._written[key]

    def written(self, candidate: Candidate, form: str) -> Artifact | ExportError | None:
        """What `write` gave; None where it was not called for these."""
        return self._written.get((candidate.digest(), form))

    def measure(self) -> tuple[Measurement, ...]:
        """Time every file that is run, side by side; equal files once."""
        files = {
            a.sha256: a
            for a in self._written.values()
            if isinstance(a, Artifact) and a.path.suffix in RUNNABLE
        }
        with counted_bar("measuring latency") as progress:
            found = benchmark([*files.values()], [Target(LocalDevice())], self.timing, progress)
        self._measured = {measurement.sha256: measurement for measurement in found}
        return found

    def figures(self, artifact: Artifact) -> Figures:
        """Of a file, once `measure` is done."""
        if artifact.sha256 not in self._figures:
            self._figures[artifact.sha256] = self._weighed(artifact)
        return self._figures[artifact.sha256]

    def _weighed(self, artifact: Artifact) -> Figures:
        measured = self._measured.get(artifact.sha256)
        download = zip_bytes(artifact.path.read_bytes())
        if measured is None:
            return Figures(artifact.size_bytes, download)
        base, loaded = measured.rss_base_bytes, measured.rss_load_bytes
        return Figures(
            artifact.size_bytes,
            download,
            round(measured.median_ms, 6),
            measured.times_ms,
            None if base is None or loaded is None else max(0, loaded - base),
        )

    def runtime(self, artifact: Artifact) -> str:
        """'onnxruntime 1.31.1'; '' where it is not run."""
        measured = self._measured.get(artifact.sha256)
        return "" if measured is None else f"{measured.runtime} {measured.runtime_version}"
