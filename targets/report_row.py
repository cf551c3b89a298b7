"""Row: what one file of a report is, and what was measured of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from compress.errors import ReportError
from targets.device import Provenance

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
