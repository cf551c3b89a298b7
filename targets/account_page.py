"""The accounts of containers in report.html and report.md, a table each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from targets.account import FileAccount
from targets.account_words import ACCOUNT_COLUMNS, ACCOUNT_NOTE, account_rows, account_summary
from targets.svg import escape


def account_tables(accounts: Sequence[FileAccount]) -> str:
    """HTML: a heading, what the columns mean, and a table for each container."""
    if not accounts:
        return ""
    tables = "".join(map(_table, accounts))
    return f"<h2>Where the bytes are</h2><p>{escape(ACCOUNT_NOTE)}</p>{tables}"


def _table(account: FileAccount) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ACCOUNT_COLUMNS)
    rows = "".join(_row(*row) for row in account_rows(account))
    return (
        f'<table class="cards accounts"><caption>{escape(account.path)}: '
        f"{escape(account_summary(account))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(name: str, *cells: str) -> str:
    said = "".join(
        f'<td data-of="{escape(column)}">{escape(cell)}</td>'
        for column, cell in zip(ACCOUNT_COLUMNS[1:], cells, strict=True)
    )
    return f'<tr><th scope="row"><code>{escape(name)}</code></th>{said}</tr>'


def account_parts(accounts: Sequence[FileAccount]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """For Markdown: a line and the rows for each container."""
    for account in accounts:
        yield f"{account.path}: {account_summary(account)}.", list(account_rows(account))
