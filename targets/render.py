"""Renderings of a report: Markdown, one HTML page, and the tables of READMEs. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.atomic import write_text
from targets import markdown, page
from targets.report import Report, write_report


def render_markdown(report: Report) -> str:
    """report.md."""
    return markdown.document(report)


def render_html(report: Report) -> str:
    """report.html: self-contained, no script, nothing fetched."""
    return page.page(report)


def table_markdown(reports: Sequence[Report]) -> str:
    """One table of all files of several reports, for a README."""
    return markdown.results_table(reports)


def containers_markdown(reports: Sequence[Report]) -> str:
    """One table of all containers of several reports, for a README."""
    return markdown.containers_table(reports)


def write_all(report: Report, folder: Path) -> tuple[Path, Path, Path]:
    """report.json, report.md and report.html in `folder`, each written whole or not at all."""
    paths = (folder / "report.json", folder / "report.md", folder / "report.html")
    write_report(report, paths[0])
    write_text(paths[1], render_markdown(report))
    write_text(paths[2], render_html(report))
    return paths
