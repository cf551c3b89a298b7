"""The bytes by cause in report.html and report.md: charts of the files that matter, a table of all.

Pure functions of a report's data; a report from before these figures has no such part.
"""

from __future__ import annotations

from collections.abc import Sequence

from targets.report_row import Row
from targets.sizing.account import SizeAccount
from targets.sizing.chart import cause_chart, sizes_shown
from targets.sizing.words import cause_columns, cause_rows, causes_note, is_smaller
from targets.svg import escape

TITLE = "From fp32 to the file"
_CHARTS = 2
_CHART_NOTE = (
    " In the charts equal lengths are equal factors; a number after ÷ or × is what the cause "
    "divides or multiplies the size by."
)


def causes_section(accounts: Sequence[SizeAccount], rows: Sequence[Row], ship: str | None) -> str:
    """HTML: the advised file's waterfall beside the smallest file's, and the table of all."""
    if not accounts:
        return ""
    downloads = {row.sha256: row.download_bytes for row in rows}
    drawn = charted(accounts, ship)
    span = [size for a in drawn for size in sizes_shown(a, downloads.get(a.sha256))]
    charts = ""
    for account in drawn:
        drawing = cause_chart(account, downloads.get(account.sha256), span)
        charts += f"<figure><h3>{escape(account.path)}</h3>{drawing}</figure>"
    note = causes_note(accounts) + (_CHART_NOTE if charts else "")
    beside = f'<div class="charts">{charts}</div>' if charts else ""
    return f"<h2>{TITLE}</h2><p>{escape(note)}</p>{beside}{_table(accounts, ship)}"


def charted(accounts: Sequence[SizeAccount], ship: str | None) -> list[SizeAccount]:
    """The advised file and the smallest; the two smallest where none is advised."""
    smaller = [account for account in accounts if is_smaller(account)]
    smaller.sort(key=lambda a: (a.sha256 != ship, a.file_bytes))
    return smaller[:_CHARTS]


def _table(accounts: Sequence[SizeAccount], ship: str | None) -> str:
    columns = cause_columns(accounts)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("Name", *columns))
    body = ""
    for account, (name, *cells) in zip(accounts, cause_rows(accounts), strict=True):
        said = "".join(
            f'<td data-of="{escape(column)}">{escape(cell)}</td>'
            for column, cell in zip(columns, cells, strict=True)
        )
        kind = ' class="ship"' if account.sha256 == ship else ""
        body += f'<tr{kind}><th scope="row">{escape(name)}</th>{said}</tr>'
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
