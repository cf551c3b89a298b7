"""The int8 scan's part of report.html: chart, table of the worst, all layers folded away."""

from __future__ import annotations

from collections.abc import Sequence

from targets.int8_chart import int8_bars
from targets.int8_scan import Int8Layer, Int8Scan
from targets.int8_words import (
    COLUMNS,
    TITLE,
    WAY_COLUMNS,
    WORST,
    int8_note,
    layer_cells,
    way_rows,
)
from targets.svg import escape


def int8_section(scan: Int8Scan | None) -> str:
    """'' where nothing was scanned."""
    if scan is None:
        return ""
    drawing = "".join(int8_bars(scan, narrow) or "" for narrow in (False, True))
    worst, rest = scan.layers[:WORST], scan.layers[WORST:]
    more = (
        f"<details><summary>The other {len(rest)}</summary>{_layers(rest)}</details>"
        if rest
        else ""
    )
    ways = _table(WAY_COLUMNS, way_rows(scan)) if scan.ways else ""
    return (
        f"<figure><h2>{TITLE}</h2><p>{escape(int8_note(scan))}</p>{drawing}{_layers(worst)}{more}"
        f"{ways}</figure>"
    )


def _layers(rows: Sequence[Int8Layer]) -> str:
    return _table(COLUMNS, [layer_cells(row) for row in rows])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = ""
    for cells in rows:
        pairs = zip(columns[1:], cells[1:], strict=True)
        values = "".join(
            f'<td data-of="{name}" class="wrap">{escape(cell)}</td>' for name, cell in pairs
        )
        body += f'<tr><th scope="row"><code>{escape(cells[0])}</code></th>{values}</tr>'
    return f'<table class="cards int8"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
