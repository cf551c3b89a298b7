"""Which file to ship: one rule, stated in the report, applied to measured files only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from targets.report import Report, Row
from targets.units import bytes_text, points_text, share_text, time_text, times_text

SLOWER = 1.10
"""A file may take this many times the fp32 file's median latency."""
SMOKE = "Smoke run, figures mean nothing: "
FP32 = "fp32"
UNTOUCHED = "none"
"""The method of a file whose net no compression touched."""


@dataclass(frozen=True)
class Rejected:
    """A file that the rule leaves out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Advice:
    """The rule's outcome. `ship` is None where no file passes; `sentence` says it either way.

    `best` has the first file of each format that passes, best first: who has already chosen a
    runtime reads on there.
    """

    sentence: str
    rule: str
    ship: Row | None
    reference: Row | None
    runner_up: Row | None
    best: tuple[Row, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]


def advise(report: Report) -> Advice:
    """Apply the rule: the smallest download among the files that are accurate and fast enough.

    A file passes when a stock runtime ran it on real hardware, its top-1 is at most
    report.max_drop below the fp32 net's, and its median latency at most 1.10 times that of the
    untouched fp32 file of the same format, device and threads (of any format, where that has
    none). A file measured on several targets must pass on each.
    """
    passed: list[Row] = []
    rejected: list[Rejected] = []
    for rows in _by_file(report.rows):
        reason = next((r for r in (_objection(row, report) for row in rows) if r), None)
        if reason is None:
            passed.append(rows[0])
        else:
            rejected.append(Rejected(rows[0].path, reason))
    passed.sort(key=lambda r: (r.download_bytes, _median(r), r.path))
    ship = passed[0] if passed else None
    reference = None if ship is None else reference_of(ship, report.rows)
    return Advice(
        sentence=(SMOKE if report.smoke else "") + _sentence(ship, reference, rejected),
        rule=_rule(report),
        ship=ship,
        reference=reference,
        runner_up=passed[1] if len(passed) > 1 else None,
        best=_first_of_each_format(passed),
        rejected=tuple(rejected),
        notes=tuple(_notes(report, ship)),
    )


def _first_of_each_format(rows: Sequence[Row]) -> tuple[Row, ...]:
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.format, row)
    return tuple(first.values())


def reference_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The untouched fp32 row to compare with: same device and threads, same format if there is.

    A factorized net is fp32, too, but has been compressed: its method says so.
    """
    alike = [
        r
        for r in rows
        if (r.precision, r.method) == (FP32, UNTOUCHED)
        and r.latency_ms is not None
        and (r.device, r.threads) == (row.device, row.threads)
    ]
    same = [r for r in alike if r.format == row.format] or alike
    return min(same, key=_median, default=None)


def _by_file(rows: Sequence[Row]) -> list[list[Row]]:
    files: dict[str, list[Row]] = {}
    for row in rows:
        files.setdefault(row.sha256, []).append(row)
    return list(files.values())


def _median(row: Row) -> float:
    return row.latency_ms.median if row.latency_ms is not None else float("inf")


def _objection(row: Row, report: Report) -> str | None:
    """Why the file does not pass with this row; None if it does."""
    if row.latency_ms is None or row.provenance != "measured":
        return row.not_measured.get("latency_ms", f"its time is {row.provenance}")
    if row.top1 is None or row.top1_fp32 is None:
        return "its accuracy, or the fp32 net's, was not measured"
    drop = row.top1_fp32 - row.top1
    if drop > report.max_drop + 1e-12:
        return f"loses {100 * drop:.2f} points of top-1, {100 * report.max_drop:.2f} are allowed"
    reference = reference_of(row, report.rows)
    if reference is None:
        return "no untouched fp32 file was measured beside it to compare its latency with"
    slower = row.latency_ms.median / _median(reference)
    if slower > SLOWER:
        return f"takes {times_text(slower)} the time of {reference.path}"
    return None


def _rule(report: Report) -> str:
    return (
        f"Among the files that a stock runtime ran on real hardware, whose top-1 is at most "
        f"{100 * report.max_drop:.2f} points below the fp32 net's, and whose median latency is at "
        f"most {SLOWER:.2f} times that of the untouched fp32 file of the same format, device and "
        f"threads: the smallest download."
    )


def _sentence(ship: Row | None, reference: Row | None, rejected: Sequence[Rejected]) -> str:
    if ship is None or reference is None:
        if not rejected:
            return "Ship nothing yet: the report has no file."
        return f"Ship nothing yet: no file passes; {rejected[0].path}: {rejected[0].reason}."
    assert ship.top1 is not None
    assert ship.top1_fp32 is not None
    size = f"the smallest download that keeps accuracy and speed, {bytes_text(ship.download_bytes)}"
    accuracy = share_text(ship.top1)
    if ship.sha256 == reference.sha256:
        return (
            f"Ship {ship.path}: {size}, {accuracy} top-1, {time_text(_median(ship))} per image; "
            f"no compressed file passes."
        )
    smaller = times_text(reference.download_bytes / ship.download_bytes)
    speed = _median(reference) / _median(ship)
    faster = f"{times_text(speed)} as fast" if speed >= 1.05 or speed <= 0.95 else "as fast"
    return (
        f"Ship {ship.path}: {size} ({smaller} smaller than {reference.path}), with {accuracy} "
        f"top-1 ({points_text(ship.top1 - ship.top1_fp32)} points) and "
        f"{time_text(_median(ship))} per image ({faster})."
    )


def _notes(report: Report, ship: Row | None) -> list[str]:
    """What someone who follows the advice must know beside it."""
    notes: list[str] = []
    noisy = sorted({r.path for r in report.rows if r.noisy})
    if ship is not None and noisy:
        notes.append(
            f"Times of {', '.join(noisy)} were noisy (interquartile range above 10 % of the "
            f"median): measure again on a quiet machine before relying on small differences."
        )
    smaller = [
        r
        for r in report.rows
        if r.latency_ms is None and (ship is None or r.download_bytes < ship.download_bytes)
    ]
    if smaller:
        least = min(smaller, key=lambda r: r.download_bytes)
        notes.append(
            f"Smallest to send is {least.path} ({bytes_text(least.download_bytes)}), which was "
            f"not run as it is: {least.not_measured.get('latency_ms', 'not measured')}."
        )
    return notes
