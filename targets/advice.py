"""Which file to ship: one rule, stated in the report, applied to measured files only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from targets.advice_notes import notes_of, smallest
from targets.loss import ESTIMATE, fidelity_text, is_estimated, loss_of, too_much
from targets.methods import UNTOUCHED
from targets.report import Report
from targets.report_row import Row
from targets.slowness import SLOWER, too_slow, unsure
from targets.smaller import is_smaller
from targets.units import bytes_text, share_text, time_text, times_text

SMOKE = "Smoke run, figures mean nothing: "
FP32 = "fp32"


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
    report.max_drop below the fp32 net's (without labels: by estimate), and its median latency is
    not shown (95 % interval) to exceed 1.10 times that of the untouched fp32 file of the same
    format, device and threads (of any format, where that has none). A file measured on several
    targets must pass on each. A smaller net's file competes with the compressed ones. With
    report.budget_bytes: the one that loses least among those that
    are small and fast enough.
    """
    passed: list[Row] = []
    rejected: list[Rejected] = []
    for rows in _by_file(report.rows):
        reason = next((r for r in (_objection(row, report) for row in rows) if r), None)
        if reason is None:
            passed.append(rows[0])
        else:
            rejected.append(Rejected(rows[0].path, reason))
    passed.sort(key=lambda r: _rank(r, report))
    ship = passed[0] if passed else None
    reference = None if ship is None else reference_of(ship, report.rows)
    return Advice(
        sentence=(SMOKE if report.smoke else "") + _sentence(report, ship, reference, rejected),
        rule=_rule(report),
        ship=ship,
        reference=reference,
        runner_up=passed[1] if len(passed) > 1 else None,
        best=_first_of_each_format(passed),
        rejected=tuple(rejected),
        notes=(*_doubt(ship, reference), *notes_of(report, ship)),
    )


def _doubt(ship: Row | None, reference: Row | None) -> tuple[str, ...]:
    said = None if ship is None or reference is None else unsure(ship, reference)
    return () if said is None else (said,)


def _rank(row: Row, report: Report) -> tuple[float, float, float, str]:
    """Least is best; each row has passed."""
    loss = 0.0 if report.budget_bytes is None else loss_of(row)
    assert loss is not None
    return (loss, row.download_bytes, _median(row), row.path)


def _first_of_each_format(rows: Sequence[Row]) -> tuple[Row, ...]:
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.format, row)
    return tuple(first.values())


def reference_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The untouched fp32 row to compare with: same device and threads, same format if there is.

    Of another format's (packed .onnx has no untouched file) that of the same runtime is taken. A
    factorized net is fp32, too, but has been compressed: its method says so.
    """
    alike = [
        r
        for r in rows
        if (r.precision, r.method) == (FP32, UNTOUCHED)
        and r.latency_ms is not None
        and (r.device, r.threads) == (row.device, row.threads)
    ]
    format_ = [r for r in alike if r.format == row.format]
    runtime = [r for r in alike if r.runtime == row.runtime]
    return min(format_ or runtime or alike, key=_median, default=None)


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
    found = too_much(row, report)
    if found is not None:
        return found
    reference = reference_of(row, report.rows)
    if reference is None:
        return "no untouched fp32 file was measured beside it to compare its latency with"
    return too_slow(row, reference)


def _rule(report: Report) -> str:
    estimated = any(is_estimated(row) for row in report.rows)
    if report.budget_bytes is None:
        fit = (
            f"whose top-1 is at most {100 * report.max_drop:.2f} points below the fp32 net's"
            f"{ESTIMATE if estimated else ''}"
        )
        best = "the smallest download"
    else:
        fit = f"that have at most {bytes_text(report.budget_bytes)}"
        best = f"the least loss of top-1{ESTIMATE if estimated else ''}"
    return (
        f"Among the files that a stock runtime ran on real hardware, {fit}, and whose median "
        f"latency is not shown (95 % interval) to exceed {SLOWER:.2f} times that of the untouched "
        f"fp32 file of the same format, device and threads: {best}."
    )


def _sentence(
    report: Report, ship: Row | None, reference: Row | None, rejected: Sequence[Rejected]
) -> str:
    if ship is None or reference is None:
        if not rejected:
            return "Ship nothing yet: the report has no file."
        least = smallest(report) if report.budget_bytes is not None else None
        near = next((r for r in rejected if least and r.path == least.path), rejected[0])
        return f"Ship nothing yet: no file passes; {near.path}: {near.reason}."
    size = f"the smallest download that keeps accuracy and speed, {bytes_text(ship.download_bytes)}"
    if report.budget_bytes is not None:
        size = (
            f"the most faithful file of at most {bytes_text(report.budget_bytes)}, "
            f"{bytes_text(ship.file_bytes)}, download {bytes_text(ship.download_bytes)}"
        )
    if ship.sha256 == reference.sha256:
        accuracy = fidelity_text(ship) if ship.top1 is None else f"{share_text(ship.top1)} top-1"
        why = "no compressed file passes" if report.budget_bytes is None else "it fits as it is"
        return f"Ship {ship.path}: {size}, {accuracy}, {time_text(_median(ship))} per image; {why}."
    smaller = times_text(reference.download_bytes / ship.download_bytes)
    speed = _median(reference) / _median(ship)
    faster = f"{times_text(speed)} as fast" if speed >= 1.05 or speed <= 0.95 else "as fast"
    return (
        f"Ship {ship.path}: {size} ({smaller} smaller than {reference.path}), with "
        f"{fidelity_text(ship)} and {time_text(_median(ship))} per image ({faster})"
        f"{_instead(ship)}."
    )


def _instead(ship: Row) -> str:
    if not is_smaller(ship):
        return ""
    return "; a smaller net, trained in the same way, does better than compressing this one"
