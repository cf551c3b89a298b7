"""What a file loses against the uncompressed net: measured with labels, estimated without."""

from __future__ import annotations

from targets.report import Report
from targets.report_row import Row
from targets.units import bytes_text, points_text, share_text

ESTIMATE = " (estimated: the pictures have no labels)"
# Shares are counts over a few hundred pictures: what rounds to the limit is within it.
SLACK = 1e-12


def loss_of(row: Row) -> float | None:
    """The loss of top-1, in [-1, 1]; None where nothing tells it.

    Measured where the pictures have labels. Else estimated: see Row.estimated_drop.
    """
    if row.top1 is not None and row.top1_fp32 is not None:
        return row.top1_fp32 - row.top1
    return row.estimated_drop


def fidelity_of(row: Row) -> float | None:
    """What charts show of a file: its top-1, without labels its agreement, in [0, 1]."""
    return row.agreement if row.top1 is None else row.top1


def is_estimated(row: Row) -> bool:
    """True where the loss of top-1 is an estimate, since the pictures have no labels."""
    return (row.top1 is None or row.top1_fp32 is None) and row.estimated_drop is not None


def too_much(row: Row, report: Report) -> str | None:
    """Why the file is not faithful or small enough for the report; None if it is."""
    loss = loss_of(row)
    if loss is None:
        return "its accuracy, or the fp32 net's, was not measured"
    if report.budget_bytes is not None:
        over = row.file_bytes > report.budget_bytes
        size = f"has {bytes_text(row.file_bytes)}, {bytes_text(report.budget_bytes)} are allowed"
        return size if over else None
    if loss <= report.max_drop + SLACK:
        return None
    allowed = f"{100 * report.max_drop:.2f} are allowed"
    if is_estimated(row):
        return f"loses an estimated {100 * loss:.2f} points of top-1, {allowed}"
    return f"loses {100 * loss:.2f} points of top-1, {allowed}"


def fidelity_text(row: Row) -> str:
    """'99.12 % top-1 (-0.07 points)'; without labels '98.2 % of the answers unchanged (...)'."""
    loss = loss_of(row)
    if row.top1 is not None:
        points = "" if loss is None else f" ({points_text(-loss)} points)"
        return f"{share_text(row.top1)} top-1{points}"
    if row.agreement is None or loss is None:
        return "accuracy not measured"
    return (
        f"the original's answer on {share_text(row.agreement)} of the pictures (top-1 "
        f"{points_text(-loss)} points, estimated without labels)"
    )
