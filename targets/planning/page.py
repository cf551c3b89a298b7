"""The plan's part of report.html."""

from __future__ import annotations

from collections.abc import Sequence

from targets.planning.held import COLUMNS, TITLE, held_note, held_rows
from targets.planning.plan import Plan
from targets.report import Row
from targets.svg import escape


def plan_section(plan: Plan | None, rows: Sequence[Row]) -> str:
    """'' where nothing was planned."""
    if plan is None:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(_row(cells) for cells in held_rows(plan, rows))
    return (
        f"<h2>{TITLE}</h2><p>{escape(held_note(plan))}</p>"
        f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _row(cells: Sequence[str]) -> str:
    pairs = zip(COLUMNS[1:], cells[1:], strict=True)
    values = "".join(
        f'<td data-of="{name}" class="wrap">{escape(cell)}</td>' for name, cell in pairs
    )
    return f'<tr><th scope="row">{escape(cells[0])}</th>{values}</tr>'
