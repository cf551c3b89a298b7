"""Whether fewer operations meant less time: each file beside the untouched one of its format."""

from __future__ import annotations

from collections.abc import Sequence

from targets.advice import reference_of
from targets.report_row import Row
from targets.slowness import slowdown
from targets.units import count_text, threads_text, times_text
from targets.words import MISSING

TITLE = "Operations and time"
COLUMNS = ("File", "MACs", "Fewer", "Faster", "95 % interval", "Part of it", "On")
NOTE = (
    "Files with fewer MACs than the untouched net: how many times fewer, how many times faster a "
    "picture is, with the interval over processes that ran side by side (none of a single one), "
    "and which part of the first the second is. 1.00 is all that fewer operations can be asked for."
)


def operation_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The cells of COLUMNS by timed fp32 file with fewer MACs than the untouched one.

    Files of other precisions are left out: their time changed for that, too.
    """
    found: list[tuple[str, ...]] = []
    for row in rows:
        plain = reference_of(row, rows)
        if plain is None or row.latency_ms is None or row.precision != plain.precision:
            continue
        if not row.macs or not plain.macs or row.macs >= plain.macs:
            continue
        found.append(_cells(row, plain))
    return found


def _cells(row: Row, plain: Row) -> tuple[str, ...]:
    assert row.macs and plain.macs
    fewer, time = plain.macs / row.macs, slowdown(row, plain)
    low, high = 1 / time.high, 1 / time.low
    part = f"{1 / time.value / fewer:.2f}"
    spread = min(len(row.times_ms or ()), len(plain.times_ms or ())) > 1
    return (
        row.path,
        count_text(row.macs),
        times_text(fewer),
        times_text(1 / time.value),
        f"{low:.2f}–{high:.2f}" if spread else MISSING,
        f"{part} ({low / fewer:.2f}–{high / fewer:.2f})" if spread else part,
        f"{row.runtime}, {threads_text(row.threads)}{', noisy' if row.noisy else ''}",
    )
