"""edgepress table: one Markdown table of several reports, or of benches' logs; printed or put
between two marks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from compress.atomic import write_text
from compress.errors import OutputError
from targets.bench_log_table import log_table
from targets.render import TABLES
from targets.report import read_report

BENCH = "bench"


def execute(arguments: argparse.Namespace) -> None:
    """Print the table, or write it into `arguments.into` between its marks."""
    name = arguments.only or "results"
    table = _table(name, arguments.reports)
    if arguments.into is None:
        print(table.rstrip("\n"))
    else:
        text = _read(arguments.into)
        write_text(arguments.into, insert(text, table, str(arguments.into), name))


def _table(name: str, paths: Sequence[Path]) -> str:
    """That table of reports, or, as "bench", of benches' logs."""
    if name == BENCH:
        return log_table(paths)
    return TABLES[name]([read_report(path) for path in paths])


def insert(text: str, table: str, source: str, name: str = "results") -> str:
    """`text` with `table` between the lines that begin with <!-- NAME: and with <!-- /NAME -->."""
    begin, end = f"<!-- {name}:", f"<!-- /{name} -->"
    lines = text.splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if line.startswith(begin)]
    ends = [i for i, line in enumerate(lines) if line.rstrip() == end]
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise OutputError(
            f"{source} has no place for the table; one line beginning {begin!r} and, after it, "
            f"one line {end!r} are needed"
        )
    placed = f"\n{table.strip()}\n\n"
    return "".join([*lines[: begins[0] + 1], placed, *lines[ends[0] :]])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path} cannot be read: {error}; give a Markdown file") from error
