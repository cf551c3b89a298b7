"""From candidates, artifacts, measurements and scores to a Report."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import EdgepressError, ReportError
from targets.int8_scan import int8_scan
from targets.onboard.host import describe
from targets.report import Report
from targets.report_stages import (
    Layer,
    LayerCurve,
    SensitivityScan,
    SizePoint,
    SkippedLayer,
    StepRow,
)
from targets.rows import About, Baseline, Entry, build_row

if TYPE_CHECKING:
    from compress.candidate import Candidate, Step
    from compress.encoding import Encoding
    from compress.stages.sensitivity import Sensitivity
    from targets.inspection import Inspection
    from targets.measurement import Measurement

_PACKAGES = (
    *("edgepress", "torch", "numpy", "onnx", "onnxruntime", "scikit-learn", "safetensors"),
    *("litert-torch", "ai-edge-litert", "ai-edge-quantizer", "tflite-runtime"),
)


def build_report(
    about: About,
    candidates: Sequence[Candidate],
    entries: Sequence[Entry],
    *,
    baseline: Baseline | None = None,
    sizes: Mapping[str, int] | None = None,
    created: datetime | None = None,
) -> Report:
    """Gather a run into a Report.

    `candidates`: the last is the final one (its history and layers are shown); an artifact is
    explained by the one with its digest. `baseline` is the untouched net that the files are
    compared with; without it, the first candidate, unscored. `sizes` gives the bytes of a real
    file written after each named stage, in order.
    """
    if not candidates:
        raise ReportError("a report needs at least one candidate; none was given")
    final = candidates[-1]
    compared = baseline or Baseline(fp32_bytes(candidates[0]))
    counts = {c.digest(): _counts(c) for c in candidates}
    rows = [
        build_row(about, entry, counts.get(entry.artifact.candidate_digest), compared)
        for entry in entries
    ]
    uncounted = counts[final.digest()]["uncounted"]
    found, unread = _inspected(entries)
    return Report(
        recipe=about.recipe,
        git_commit=git_commit(),
        seed=about.seed,
        created=(created or datetime.now(UTC)).isoformat(timespec="seconds"),
        environment=environment([e.measurement for e in entries if e.measurement]),
        steps=tuple(_step(step) for step in final.history),
        rows=tuple(rows),
        max_drop=about.max_drop,
        sizes=tuple(SizePoint(stage, size) for stage, size in (sizes or {}).items()),
        layers=layers_of(final),
        not_measured=(*(f"MACs of {line}" for line in uncounted), *unread),
        smoke=about.smoke,
        budget_bytes=about.budget_bytes,
        scored_on=about.scored_on,
        notes=about.notes,
        sensitivity=_scan(about.sensitivity),
        int8_scan=int8_scan(about.int8_scan),
        planned=about.planned,
        tradeoff=about.tradeoff,
        accounts=tuple(file.account for file in found if file.account),
        sizes_by_cause=tuple(
            file.sizes.against(compared.bytes) for file in found if file.sizes is not None
        ),
    )


def _inspected(entries: Sequence[Entry]) -> tuple[list[Inspection], list[str]]:
    """(every file that was written, once; a line for each that cannot be read here)."""
    from targets.inspection import inspect_file

    found: list[Inspection] = []
    unread: list[str] = []
    for path in {e.artifact.sha256: e.artifact.path for e in entries}.values():
        try:
            found.append(inspect_file(path))
        except EdgepressError as error:
            why = str(error).replace(str(path), path.name)
            unread.append(f"where the bytes of {path.name} are: {why}")
    return found, unread


def fp32_bytes(candidate: Candidate) -> int:
    """Bytes of all parameters of the net as float32, zeros included."""
    return 4 * sum(p.size for p in candidate.network.parameters().values())


def layers_of(candidate: Candidate) -> tuple[Layer, ...]:
    """Every parameter by name: zeros, bits of one stored value, kind of encoding."""
    layers: list[Layer] = []
    for name, values in sorted(candidate.network.parameters().items()):
        kind, bits = _kind(candidate.encodings.get(name))
        nonzeros = int((values != 0).sum())
        sparsity = round(1.0 - nonzeros / values.size, 6) if values.size else 0.0
        layers.append(Layer(name, values.shape, values.size, nonzeros, sparsity, bits, kind))
    return tuple(layers)


def environment(measurements: Sequence[Measurement]) -> dict[str, str | int | float | None]:
    """The machine and the versions of what made and ran the files; None: not installed.

    Where files were measured, the machine is the one that measured them.
    """
    machine = dict(measurements[-1].environment) if measurements else describe()
    if measurements:
        loads = [m.environment.get("load_average") for m in measurements]
        machine["load_average"] = max((x for x in loads if isinstance(x, float)), default=None)
    return {**machine, **{name: _version(name) for name in _PACKAGES}}


def git_commit() -> str | None:
    """The commit of the source tree that runs, '-dirty' if changed since; None outside one."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        known = _run([*git, "ls-files", "--error-unmatch", here.name])
        if known.returncode:
            return None
        told = _run([*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() if told.returncode == 0 else None


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _counts(candidate: Candidate) -> dict[str, Any]:
    from compress.measure import count

    counted = count(candidate.spec, candidate.network.module())
    return {
        "params": counted.parameters,
        "nonzeros": counted.nonzeros,
        "macs": counted.macs,
        "uncounted": counted.uncounted,
    }


def _kind(encoding: Encoding | None) -> tuple[str, int]:
    """('float32' | 'pruned' | 'shared' | 'integer', bits of one stored value)."""
    if encoding is None:
        return "float32", 32
    from compress.encoding import Masked

    if isinstance(encoding, Masked):
        return "pruned", 32
    return ("integer" if encoding.on_integers else "shared"), encoding.bits


def _step(step: Step) -> StepRow:
    return StepRow(
        stage=step.stage,
        settings=step.settings,
        seconds=step.seconds,
        touched=step.touched,
        skipped=tuple(SkippedLayer(s.layer, s.reason) for s in step.skipped),
        metrics=step.metrics,
        parameters=step.parameters,
        nonzeros=step.nonzeros,
        digest=step.digest,
        checkpoint=step.checkpoint,
        trained_on=step.trained_on,
    )


def _scan(found: Sensitivity | None) -> SensitivityScan | None:
    if found is None:
        return None
    curves = tuple(LayerCurve(c.layer, c.weights, c.sparsities, c.values) for c in found.curves)
    return SensitivityScan(found.metric, found.whole, curves)
