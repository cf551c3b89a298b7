"""edgepress report: render the report.json of a folder again."""

from __future__ import annotations

import argparse

from compress.atomic import write_text
from compress.errors import OutputError, ReportError
from targets.advice import advise
from targets.render import render_html, render_markdown
from targets.report import read_report


def execute(arguments: argparse.Namespace) -> None:
    """Write report.md and report.html beside the report.json, which is only read."""
    folder = arguments.folder
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder; give one that `edgepress run` wrote")
    report = read_report(folder / "report.json")
    pages = {"report.md": render_markdown(report), "report.html": render_html(report)}
    try:
        for name, text in pages.items():
            write_text(folder / name, text)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"folder {folder} cannot be written ({reason}); copy it first") from error
    print(f"{advise(report).sentence}\nreport: {folder / 'report.html'}")
