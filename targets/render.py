"""Renderings of a report: Markdown, one HTML page, and the tables of READMEs. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compress.atomic import write_text
from targets import markdown, page, readme_tables
from targets.report import Report, write_report


def render_markdown(report: Report) -> str:
    """report.md."""
    return markdown.document(report)


def render_html(report: Report) -> str:
    """report.html: self-contained, no script, nothing fetched."""
    return page.page(report)


TABLES: Mapping[str, Callable[[Sequence[Report]], str]] = {
    "results": readme_tables.results_table,
    "containers": readme_tables.containers_table,
    "packed": readme_tables.packed_table,
    "int8": readme_tables.int8_table,
    "devices": readme_tables.devices_table,
}
"""By its name one table of several reports, for a README: of all files or of one kind."""


def write_all(report: Report, folder: Path) -> tuple[Path, Path, Path]:
    """report.json, report.md and report.html in `folder`, each written whole or not at all."""
    paths = (folder / "report.json", folder / "report.md", folder / "report.html")
    write_report(report, paths[0])
    write_text(paths[1], render_markdown(report))
    write_text(paths[2], render_html(report))
    return paths
