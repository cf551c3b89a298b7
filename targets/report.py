"""Report: what was compressed, written and measured, as frozen data; report.json is its text.

Schema 1. Every number is of the very file that the row names. What was not measured is null and
stands in the row's `not_measured` with its reason. Renderings (render.py) are pure functions of
a Report; assemble.py makes one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from compress.atomic import write_text
from compress.errors import ReportError
from targets.account import FileAccount
from targets.device import Provenance
from targets.device_results import DeviceResult
from targets.int8_scan import Int8Scan
from targets.planning.plan import Plan
from targets.schema import read_data
from targets.sizing.account import SizeAccount
from targets.tradeoff import Tradeoff

SCHEMA = 1
# Reports from before these fields give no reason for their absence.
_UNEXPLAINED = {
    *("agreement", "estimated_drop", "held_out", "logit_sqnr_db"),
    *("brotli_bytes", "zstd_bytes", "rss_load_bytes", "peak_rss_load_bytes"),
}


@dataclass(frozen=True)
class Latency:
    """Milliseconds over `runs` timed calls in all processes together."""

    median: float
    p10: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Decibels:
    """A ratio of powers in dB, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ReportError(
                f"{self.value} dB lies outside its interval {self.low} to {self.high}; an interval "
                f"holds its value"
            )


@dataclass(frozen=True)
class HeldOut:
    """top-1, in [0, 1], on labelled pictures that no choice was made on; won and lost as in Row."""

    top1: float
    top1_fp32: float
    samples: int
    won: int
    lost: int

    def __post_init__(self) -> None:
        if not (0.0 <= self.top1 <= 1.0 and 0.0 <= self.top1_fp32 <= 1.0 and self.samples >= 1):
            raise ReportError(
                f"held_out has top1 {self.top1}, {self.top1_fp32} on {self.samples} pictures; "
                f"0..1 on 1 or more are allowed"
            )
        if self.won < 0 or self.lost < 0:
            raise ReportError(f"held_out has {self.won} won, {self.lost} lost; 0 or more")


@dataclass(frozen=True)
class Row:
    """One file on one target. Fields that may be None are None only with a reason given.

    params, nonzeros and macs are of the candidate in the file; baseline_bytes of the fp32 weights
    that the recipe began with, ratio = baseline_bytes / file_bytes. download_bytes: the file
    deflated at level 9, as an app store sends it; brotli_bytes and zstd_bytes: at quality 11 and
    level 19, as over the air. rss_base_bytes: resident before the file is loaded, rss_load_bytes
    after, peak_rss_load_bytes: the most until then. won and lost count test images that the file
    gets right where the fp32 net was wrong, and the reverse. `times_ms` are the raw times by
    process. agreement: share of the pictures, in [0, 1], on which the file's first class is the
    uncompressed net's; logit_sqnr_db: the power of that net's outputs over that of the file's
    difference from them. estimated_drop: the loss of top-1, in [0, 1], that those answers mean if
    the uncompressed net's probabilities are right: the mean of p(its class) - p(the file's class),
    of which the upper end of the 95 % interval stands here.
    Additions to schema 1: won, lost, first_ms, rss_base_bytes, times_ms; and agreement,
    estimated_drop, held_out, brotli_bytes, zstd_bytes, rss_load_bytes, peak_rss_load_bytes,
    logit_sqnr_db, which need no reason where they are None.
    """

    model: str
    dataset: str
    method: str
    format: str
    precision: str
    path: str
    sha256: str
    file_bytes: int
    download_bytes: int
    params: int | None = None
    nonzeros: int | None = None
    macs: int | None = None
    top1: float | None = None
    top1_fp32: float | None = None
    samples: int | None = None
    won: int | None = None
    lost: int | None = None
    runtime: str | None = None
    provider: str | None = None
    device: str | None = None
    threads: int | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    latency_ms: Latency | None = None
    times_ms: tuple[tuple[float, ...], ...] | None = None
    peak_rss_bytes: int | None = None
    rss_base_bytes: int | None = None
    instructions: int | None = None
    provenance: Provenance | None = None
    noisy: bool | None = None
    evaluated_sha256: str | None = None
    baseline_bytes: int | None = None
    ratio: float | None = None
    agreement: float | None = None
    estimated_drop: float | None = None
    held_out: HeldOut | None = None
    brotli_bytes: int | None = None
    zstd_bytes: int | None = None
    rss_load_bytes: int | None = None
    peak_rss_load_bytes: int | None = None
    logit_sqnr_db: Decibels | None = None
    not_measured: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        _check_ranges(self)
        names = {f.name for f in fields(self)} - {"not_measured"}
        missing = {name for name in names if getattr(self, name) is None}
        silent = missing - set(self.not_measured) - _UNEXPLAINED
        wrong = set(self.not_measured) - missing
        if silent:
            raise ReportError(f"{min(silent)!r} is null without a reason in not_measured")
        if wrong:
            raise ReportError(f"{min(wrong)!r} is in not_measured, but has a value or is no field")


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that a stage left alone, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class StepRow:
    """What one stage did (compress.candidate.Step); metrics on the validation data."""

    stage: str
    settings: str
    seconds: float
    touched: tuple[str, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    parameters: int = 0
    nonzeros: int = 0
    digest: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class SizePoint:
    """Bytes of a real file written after `stage`."""

    stage: str
    bytes: int

    def __post_init__(self) -> None:
        if self.bytes < 0:
            raise ReportError(f"bytes is {self.bytes}; 0 or more are allowed")


@dataclass(frozen=True)
class Layer:
    """One parameter of the final candidate. `bits` of one stored value: 32 where it is float."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    nonzeros: int
    sparsity: float
    bits: int
    encoding: str

    def __post_init__(self) -> None:
        if not 0 <= self.nonzeros <= self.parameters or not 0.0 <= self.sparsity <= 1.0:
            raise ReportError(
                f"layer {self.name!r} has {self.nonzeros} non-zeros of {self.parameters}, "
                f"sparsity {self.sparsity}; 0..all and 0..1 are allowed"
            )


@dataclass(frozen=True)
class LayerCurve:
    """One layer pruned alone, without training: values[i] of the metric at sparsities[i].

    weights: how many the layer has. sparsities: in [0, 1), ascending.
    """

    layer: str
    weights: int
    sparsities: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.sparsities))
        if not (rising and all(0.0 <= s < 1.0 for s in self.sparsities)):
            raise ReportError(
                f"sparsities of layer {self.layer!r} are {self.sparsities}; ascending numbers in "
                f"[0, 1) are needed"
            )
        if len(self.values) != len(self.sparsities) or not self.values or self.weights < 1:
            raise ReportError(
                f"layer {self.layer!r} of {self.weights} weights has {len(self.values)} values "
                f"at {len(self.sparsities)} sparsities; equal numbers from 1 are needed"
            )


@dataclass(frozen=True)
class SensitivityScan:
    """How much each layer bears: `metric` on the validation data, more is better.

    whole: the metric of the net before pruning.
    """

    metric: str
    whole: float
    curves: tuple[LayerCurve, ...]


@dataclass(frozen=True)
class Report:
    """One run of a recipe. max_drop: the loss of top-1, in [0, 1], that the recipe allows.

    Without labels the estimated loss is held against it. budget_bytes: the most bytes that a file
    may have; then the most faithful file within it is asked for, and max_drop says nothing.
    scored_on: what the pictures are that top1 and agreement are of. notes: what a reader must know
    before the figures.
    `smoke`: a tiny run, made to see that everything works; its figures mean nothing.
    sensitivity: each layer pruned alone, where the recipe scanned that; null where it did not.
    int8_scan: each layer quantized alone, likewise. tradeoff: agreement of nets with fewer MACs.
    Additions to schema 1: max_drop, sizes, layers, not_measured (what concerns no single row),
    smoke (false where it is not given), budget_bytes, scored_on, notes, sensitivity, int8_scan,
    tradeoff, accounts (where the bytes of each container are), sizes_by_cause (those of every
    file), planned (what edgepress plan predicted), elsewhere (the files on further targets).
    """

    recipe: str
    git_commit: str | None
    seed: int
    created: str
    environment: Mapping[str, str | int | float | None]
    steps: tuple[StepRow, ...]
    rows: tuple[Row, ...]
    max_drop: float = 0.005
    sizes: tuple[SizePoint, ...] = ()
    layers: tuple[Layer, ...] = ()
    not_measured: tuple[str, ...] = ()
    smoke: bool = False
    budget_bytes: int | None = None
    scored_on: str = "test images"
    notes: tuple[str, ...] = ()
    sensitivity: SensitivityScan | None = None
    int8_scan: Int8Scan | None = None
    tradeoff: Tradeoff | None = None
    planned: Plan | None = None
    accounts: tuple[FileAccount, ...] = ()
    sizes_by_cause: tuple[SizeAccount, ...] = ()
    elsewhere: tuple[DeviceResult, ...] = ()

    def __post_init__(self) -> None:
        if self.git_commit is not None and not re.fullmatch(
            r"[0-9a-f]{40}(-dirty)?", self.git_commit
        ):
            raise ReportError(f"git_commit is {self.git_commit!r}; 40 hexadecimal digits or null")
        if not 0.0 <= self.max_drop <= 1.0:
            raise ReportError(f"max_drop is {self.max_drop}; 0..1 is allowed")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ReportError(f"budget_bytes is {self.budget_bytes}; 1 or more are allowed")

    def to_json(self) -> str:
        """Deterministic text: sorted keys, lists of numbers on one line, ends with a newline."""
        data: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        text = json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        # A line break inside a JSON string is written as \n, so only structure can match.
        return re.sub(r"\[\n[\d\s.,eE+-]*\]", lambda m: " ".join(m[0].split()), text) + "\n"


def write_report(report: Report, path: Path) -> None:
    """Write report.json whole or not at all."""
    write_text(path, report.to_json())


def read_report(path: Path) -> Report:
    """Read a report.json of schema 1. ReportError, one line, names the first wrong place."""
    return read_data(path, Report, SCHEMA, "schema")


def _check_ranges(row: Row) -> None:
    """Shares in [0, 1], counts and times not negative, hashes hexadecimal."""
    for name in ("top1", "top1_fp32", "agreement", "estimated_drop"):
        value = getattr(row, name)
        if value is not None and not 0.0 <= value <= 1.0:
            raise ReportError(f"{name} is {value}; 0..1 is allowed")
    for name in ("sha256", "evaluated_sha256"):
        value = getattr(row, name)
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ReportError(f"{name} is {value!r}; 64 hexadecimal digits are needed")
    counts = [f.name for f in fields(row) if f.name.endswith(("_bytes", "_ms"))]
    for name in (*counts, "params", "nonzeros", "macs", "won", "lost", "instructions", "ratio"):
        value = getattr(row, name)
        if isinstance(value, (int, float)) and value < 0:
            raise ReportError(f"{name} is {value}; 0 or more is allowed")
    if row.samples is not None and row.samples < 1:
        raise ReportError(f"samples is {row.samples}; 1 or more are needed")
    if row.latency_ms is not None:
        spread = (row.latency_ms.p10, row.latency_ms.median, row.latency_ms.p90)
        if list(spread) != sorted(spread) or spread[0] < 0 or row.latency_ms.runs < 1:
            raise ReportError(
                f"latency_ms is {row.latency_ms}; 0 <= p10 <= median <= p90 is needed"
            )
