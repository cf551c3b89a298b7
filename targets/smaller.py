"""The honest line: smaller nets of the same family, trained the same way, left uncompressed.

A compressed file that loses to one of them was not worth its compressing. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from targets.loss import fidelity_of
from targets.methods import SMALLER, UNTOUCHED
from targets.report import Report
from targets.report_row import Row
from targets.units import bytes_text, share_text, time_text

TITLE = "Against a smaller net"
UNKNOWN = (
    "Of a smaller net, uncompressed, nothing is known: none of the same family, trained in the "
    "same way, was measured beside these files."
)


class Measure(NamedTuple):
    """What a file costs: 'download', its value in a row (None: not known), its text."""

    name: str
    of: Callable[[Row], float | None]
    text: Callable[[float], str]


def latency_of(row: Row) -> float | None:
    """Median latency in ms; None where the file was not timed."""
    return None if row.latency_ms is None else row.latency_ms.median


MEASURES = (
    Measure("download", lambda row: row.download_bytes, bytes_text),
    Measure("latency", latency_of, time_text),
)


def is_smaller(row: Row) -> bool:
    return row.method == SMALLER


def is_compressed(row: Row) -> bool:
    return row.method not in (SMALLER, UNTOUCHED)


def smaller_words(report: Report, ship: Row | None) -> tuple[str, ...]:
    """What the smaller nets say about the compressed files: UNKNOWN without any.

    By each measure: the files that a smaller net matches, being at least as accurate at no more;
    and for the advised file the smaller net that comes next to it.
    """
    smaller = [r for r in report.rows if is_smaller(r) and fidelity_of(r) is not None]
    files = [r for r in report.rows if is_compressed(r) and fidelity_of(r) is not None]
    if not smaller:
        return (UNKNOWN,)
    lines = [_beaten(files, smaller, measure) for measure in MEASURES]
    if ship is not None and is_compressed(ship):
        lines.append(_beside(ship, smaller))
    return tuple(line for line in lines if line)


def better(row: Row, smaller: Sequence[Row], measure: Measure) -> Row | None:
    """The most accurate of the smaller nets' files that cost no more and are at least as accurate.

    None where there is none. Files are compared that the same runtime runs on the same device; a
    file that none runs, with all.
    """
    cost, accuracy = measure.of(row), fidelity_of(row)
    if cost is None or accuracy is None:
        return None
    found = [r for r in smaller if _alike(r, row) and _no_worse(r, cost, accuracy, measure)]
    return max(found, key=lambda r: (fidelity_of(r) or 0.0, r.path), default=None)


def _no_worse(row: Row, cost: float, accuracy: float, measure: Measure) -> bool:
    own = measure.of(row)
    return own is not None and own <= cost and (fidelity_of(row) or 0.0) >= accuracy


def _alike(one: Row, row: Row) -> bool:
    if row.latency_ms is None:
        return True
    return (one.runtime, one.device, one.threads) == (row.runtime, row.device, row.threads)


def _beaten(files: Sequence[Row], smaller: Sequence[Row], measure: Measure) -> str:
    known = {r.path: r for r in files if measure.of(r) is not None}
    found = {path: better(row, smaller, measure) for path, row in known.items()}
    lost = [
        f"{path} ({measure.text(measure.of(known[path]) or 0.0)}, {_accuracy(known[path])}; "
        f"{other.path} {measure.text(measure.of(other) or 0.0)}, {_accuracy(other)})"
        for path, other in found.items()
        if other is not None
    ]
    if not known:
        return ""
    files_text = f"{len(known)} compressed file{'s' if len(known) > 1 else ''}"
    if not lost:
        return f"By {measure.name}, a smaller net, uncompressed, matches none of {files_text}."
    return (
        f"By {measure.name}, a smaller net, uncompressed, does as well as {len(lost)} of "
        f"{files_text} or better: {'; '.join(lost)}."
    )


def _beside(ship: Row, smaller: Sequence[Row]) -> str:
    """The smallest of the smaller nets that are as accurate as `ship`, else the most accurate."""
    rows = [r for r in smaller if _alike(r, ship)]
    if not rows:
        return ""
    accurate = [r for r in rows if (fidelity_of(r) or 0.0) >= (fidelity_of(ship) or 0.0)]
    if accurate:
        near = min(accurate, key=lambda r: r.download_bytes)
        return f"The smallest smaller net that is as accurate as {_all(ship)} is {_all(near)}."
    near = max(rows, key=lambda r: fidelity_of(r) or 0.0)
    return f"No smaller net is as accurate as {_all(ship)}; the most accurate is {_all(near)}."


def _all(row: Row) -> str:
    known = [m.text(value) for m in MEASURES if (value := m.of(row)) is not None]
    return f"{row.path} ({', '.join([*known, _accuracy(row)])})"


def _accuracy(row: Row) -> str:
    return share_text(fidelity_of(row) or 0.0)
