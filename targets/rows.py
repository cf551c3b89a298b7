"""One row of a report from an artifact, its score and its measurement; a reason for each gap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from compress.errors import ReportError
from targets.report_row import Decibels, HeldOut, Latency, Row
from targets.sizing.downloads import Downloads, downloads

if TYPE_CHECKING:
    from compress.stages.int8_sensitivity import Int8Sensitivity
    from compress.stages.sensitivity import Sensitivity
    from targets.artifact import Artifact
    from targets.measurement import Measurement
    from targets.planning.plan import Plan
    from targets.tradeoff import Tradeoff


@dataclass(frozen=True)
class About:
    """What the whole report is about. max_drop: the loss of top-1 (in [0, 1]) that is allowed.

    `smoke`: the run was a tiny one, whose figures mean nothing. The last six are the report's;
    `sensitivity` is what compress.stages.sensitivity.scan found, `int8_scan` what scan_int8 did,
    `planned` what edgepress plan predicted.
    """

    recipe: str
    model: str
    dataset: str
    method: str
    seed: int
    max_drop: float = 0.005
    smoke: bool = False
    budget_bytes: int | None = None
    scored_on: str = "test images"
    notes: tuple[str, ...] = ()
    sensitivity: Sensitivity | None = None
    int8_scan: Int8Sensitivity | None = None
    planned: Plan | None = None
    tradeoff: Tradeoff | None = None


@dataclass(frozen=True)
class Baseline:
    """The untouched net: bytes of its fp32 weights, and its top-1 on the test data, in [0, 1]."""

    bytes: int
    top1: float | None = None


@dataclass(frozen=True)
class Score:
    """Accuracy of one file on the test data; won and lost against the fp32 net's answers.

    `evaluated_sha256` names the file that was scored where it is not the file itself (the .onnx
    that a container was decoded into). `agreement` and `estimated_drop` as in Row; top1 is None
    where the pictures have no labels.
    """

    top1: float | None
    samples: int
    won: int | None = None
    lost: int | None = None
    evaluated_sha256: str | None = None
    agreement: float | None = None
    estimated_drop: float | None = None
    logit_sqnr_db: Decibels | None = None


@dataclass(frozen=True)
class Entry:
    """One file for the report. `reasons` say why a field has no value: {"latency_ms": "..."}.

    A file that was measured on two targets gives two entries. `method` replaces About's (see
    methods.py), `model` does for a smaller net's file.
    """

    artifact: Artifact
    score: Score | None = None
    measurement: Measurement | None = None
    method: str | None = None
    held_out: HeldOut | None = None
    model: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])


def build_row(
    about: About,
    entry: Entry,
    counts: Mapping[str, Any] | None,
    baseline: Baseline,
) -> Row:
    """The row of one file. ReportError where the file or the measurement is not the artifact's."""
    artifact = entry.artifact
    size = artifact.path.stat().st_size
    if size != artifact.size_bytes or not size:
        raise ReportError(
            f"{artifact.path} has {size} bytes, {artifact.size_bytes} when it was exported; "
            f"export it again"
        )
    sent = downloads(artifact.path.read_bytes())
    values: dict[str, Any] = {
        "top1_fp32": baseline.top1,
        "baseline_bytes": baseline.bytes,
        "ratio": round(baseline.bytes / size, 4),
        **{name: counts[name] if counts else None for name in ("params", "nonzeros", "macs")},
        **_scored(entry.score, artifact.sha256),
        **_measured(entry.measurement, artifact.sha256),
        "brotli_bytes": sent.brotli_bytes,
        "zstd_bytes": sent.zstd_bytes,
    }
    score = entry.score
    return Row(
        model=entry.model or about.model,
        dataset=about.dataset,
        method=entry.method or about.method,
        format=artifact.format,
        precision=artifact.precision,
        path=artifact.path.name,
        sha256=artifact.sha256,
        file_bytes=size,
        download_bytes=sent.zip_bytes,
        **values,
        agreement=None if score is None else score.agreement,
        estimated_drop=None if score is None else score.estimated_drop,
        logit_sqnr_db=None if score is None else score.logit_sqnr_db,
        held_out=entry.held_out,
        not_measured=_reasons(entry, values, sent),
    )


def _scored(score: Score | None, sha256: str) -> dict[str, Any]:
    if score is None:
        names = ("top1", "samples", "won", "lost", "evaluated_sha256")
        return dict.fromkeys(names)
    values = {**asdict(score), "evaluated_sha256": score.evaluated_sha256 or sha256}
    del values["agreement"], values["estimated_drop"], values["logit_sqnr_db"]
    return values


def _measured(measurement: Measurement | None, sha256: str) -> dict[str, Any]:
    names = (
        *("runtime", "provider", "device", "threads", "load_ms", "first_ms", "latency_ms"),
        *("times_ms", "peak_rss_bytes", "rss_base_bytes", "instructions", "provenance", "noisy"),
        *("rss_load_bytes", "peak_rss_load_bytes"),
    )
    empty: dict[str, Any] = dict.fromkeys(names)
    if measurement is None:
        return empty
    m = measurement
    if m.sha256 != sha256:
        raise ReportError(f"the measurement of {m.file} is of another file ({m.sha256[:12]})")
    known = {
        "runtime": f"{m.runtime} {m.runtime_version}",
        "provider": m.provider,
        "device": m.device,
        "threads": m.threads,
        "peak_rss_bytes": m.peak_rss_bytes,
        "rss_base_bytes": m.rss_base_bytes,
        "rss_load_bytes": m.rss_load_bytes,
        "peak_rss_load_bytes": m.peak_rss_load_bytes,
        "provenance": m.provenance,
    }
    if m.provenance != "measured":
        return {**empty, **known}
    latency = Latency(*(_round(x) for x in (m.median_ms, m.p10_ms, m.p90_ms)), runs=m.runs)
    times = tuple(tuple(_round(t) for t in process) for process in m.times_ms)
    return {
        **empty,
        **known,
        "load_ms": _round(m.load_ms),
        "first_ms": _round(m.first_ms),
        "latency_ms": latency,
        "times_ms": times,
        "noisy": m.noisy,
    }


def _round(ms: float) -> float:
    """To five significant digits: clocks give no more, and reports stay readable."""
    return 0.0 if ms == 0 else round(ms, 4 - math.floor(math.log10(abs(ms))))


def _reasons(entry: Entry, values: Mapping[str, Any], sent: Downloads) -> dict[str, str]:
    """A reason for each value that is None: the entry's own, else what the entry lacks."""
    known = {**sent.reasons, **entry.reasons}
    return {
        name: known.get(name) or _reason(entry, name)
        for name, value in values.items()
        if value is None
    }


def _reason(entry: Entry, name: str) -> str:
    if name == "instructions":
        return "instructions are counted only under an emulator"
    unlabelled = entry.score is not None and entry.score.top1 is None
    if unlabelled and name in ("top1", "top1_fp32", "won", "lost"):
        return "the pictures have no labels"
    if name == "top1_fp32":
        return "the fp32 net was not scored"
    if name in ("params", "nonzeros", "macs"):
        return "the candidate in the file was not given"
    if name in ("won", "lost") and entry.score is not None:
        return "answers were not compared image by image with the fp32 net's"
    if name in ("top1", "samples", "won", "lost", "evaluated_sha256"):
        return "the file was not scored"
    measurement = entry.measurement
    if measurement is None:
        if entry.artifact.path.suffix not in (".onnx", ".tflite"):
            return "no stock runtime loads this format; it is decoded first"
        return "the file was not benchmarked"
    if name in ("peak_rss_bytes", "rss_base_bytes", "rss_load_bytes", "peak_rss_load_bytes"):
        return f"{measurement.environment.get('system')} does not show it"
    return f"{measurement.provenance} time is not latency"
