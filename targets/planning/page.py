"""The plan's part of report.html."""

from __future__ import annotations

from collections.abc import Sequence

from targets.file_words import Cell
from targets.planning.held import COLUMNS, TITLE, held_note, held_rows
from targets.report import Report
from targets.svg import escape


def plan_section(report: Report) -> str:
    """'' where nothing was planned."""
    plan = report.planned
    if plan is None:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(_row(path, cells) for path, cells in held_rows(plan, report.rows))
    return (
        f"<h2>{TITLE}</h2><p>{escape(held_note(plan, report))}</p>"
        f'<table class="cards files"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _row(path: str, cells: Sequence[Cell]) -> str:
    pairs = zip(COLUMNS[1:], cells, strict=True)
    values = "".join(f'<td data-of="{name}">{_cell(cell)}</td>' for name, cell in pairs)
    return f'<tr><th scope="row">{escape(path)}</th>{values}</tr>'


def _cell(cell: Cell) -> str:
    parts = (part for part in (cell.detail, cell.second) if part)
    return escape(cell.value) + "".join(f"<small>{escape(part)}</small>" for part in parts)
