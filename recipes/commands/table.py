"""edgepress table: one Markdown table of several reports, printed or put between two marks."""

from __future__ import annotations

import argparse
from pathlib import Path

from compress.atomic import write_text
from compress.errors import OutputError
from targets.render import table_markdown
from targets.report import read_report

BEGIN = "<!-- results:"
END = "<!-- /results -->"


def execute(arguments: argparse.Namespace) -> None:
    """Print the table, or write it into `arguments.into` between its marks."""
    table = table_markdown([read_report(path) for path in arguments.reports])
    if arguments.into is None:
        print(table.rstrip("\n"))
    else:
        text = _read(arguments.into)
        write_text(arguments.into, insert(text, table, str(arguments.into)))


def insert(text: str, table: str, source: str) -> str:
    """`text` with `table` between the line that begins with BEGIN and the line END."""
    lines = text.splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if line.startswith(BEGIN)]
    ends = [i for i, line in enumerate(lines) if line.rstrip() == END]
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise OutputError(
            f"{source} has no place for the table; one line beginning {BEGIN!r} and, after it, "
            f"one line {END!r} are needed"
        )
    placed = f"\n{table.strip()}\n\n"
    return "".join([*lines[: begins[0] + 1], placed, *lines[ends[0] :]])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path} cannot be read: {error}; give a Markdown file") from error
