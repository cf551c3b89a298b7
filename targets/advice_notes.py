"""What someone who follows the advice must know beside it."""

from __future__ import annotations

from targets.loss import is_estimated, loss_of, too_much
from targets.report import Report
from targets.report_row import Row
from targets.smaller import is_compressed
from targets.units import bytes_text, points_text

_LOADED = (".onnx", ".tflite")


def notes_of(report: Report, ship: Row | None) -> list[str]:
    """Noise, the meaning of an estimate, what came nearest, what is smaller to send."""
    notes = _noise(report, ship)
    if any(is_estimated(row) for row in report.rows):
        notes.append(
            "The pictures have no labels, so the loss of top-1 is an estimate: where a file's "
            "answer differs from the original's, what the original's own probabilities say that "
            "the change costs, and of that the upper end of the 95 % interval. Labelled pictures "
            "measure it."
        )
    compressed = ship is not None and is_compressed(ship)
    nearest = None if compressed else _nearest(report)
    if nearest is not None:
        notes.append(f"Nearest came {nearest.path}, which {_shortfall(nearest, report)}.")
    return notes + _smaller(report, ship)


def smallest(report: Report) -> Row | None:
    """The smallest file that a stock runtime loads."""
    rows = [r for r in report.rows if r.path.endswith(_LOADED)]
    return min(rows, key=lambda r: r.file_bytes, default=None)


def _noise(report: Report, ship: Row | None) -> list[str]:
    noisy = sorted({r.path for r in report.rows if r.noisy})
    if ship is None or not noisy:
        return []
    return [
        f"Times of {', '.join(noisy)} were noisy (interquartile range above 10 % of the "
        f"median): measure again on a quiet machine before relying on small differences."
    ]


def _nearest(report: Report) -> Row | None:
    """Of the compressed files that are not faithful or small enough, the one that lacks least."""
    if report.budget_bytes is not None:
        row = smallest(report)
        return row if row is not None and too_much(row, report) is not None else None
    rows = [
        r
        for r in report.rows
        if r.path.endswith(_LOADED) and is_compressed(r) and too_much(r, report) is not None
    ]
    return min(rows, key=lambda r: loss_of(r) or 0.0, default=None)


def _shortfall(row: Row, report: Report) -> str:
    loss = loss_of(row)
    points = "" if loss is None else f", {points_text(-loss)} points of top-1"
    return f"{too_much(row, report)} ({bytes_text(row.download_bytes)} to download{points})"


def _smaller(report: Report, ship: Row | None) -> list[str]:
    """What no runtime loads, but is smaller to send than what is shipped, and as faithful."""
    rows = [
        r
        for r in report.rows
        if r.latency_ms is None
        and not r.path.endswith(_LOADED)
        and (loss_of(r) is None or too_much(r, report) is None)
        and (ship is None or r.download_bytes < ship.download_bytes)
    ]
    if not rows:
        return []
    least = min(rows, key=lambda r: r.download_bytes)
    unpacking = "; `edgepress unpack` makes an .onnx of it" if least.format == "dc" else ""
    return [
        f"Smallest to send is {least.path} ({bytes_text(least.download_bytes)}), which was "
        f"not run as it is: {least.not_measured.get('latency_ms', 'not measured')}{unpacking}."
    ]
