"""The Markdown tables of several reports, for READMEs. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from targets.device_table import device_columns, device_rows
from targets.int8_table import COLUMNS as INT8_COLUMNS
from targets.int8_table import int8_rows
from targets.markdown import table
from targets.packed_table import COLUMNS as PACKED_COLUMNS
from targets.packed_table import packed_rows
from targets.report import Report
from targets.report_row import Row
from targets.units import bytes_text, share_text, threads_text, time_text, times_text
from targets.words import MISSING, shown


def results_table(reports: Sequence[Report]) -> str:
    """One Markdown table over several reports, for READMEs; sorted by model, dataset and size.

    Rows of a smoke run say so.
    """
    rows = [(report, row) for report in reports for row in report.rows]
    rows.sort(key=lambda x: (x[1].model, x[1].dataset, -x[1].file_bytes, x[1].path, x[0].recipe))
    columns = (
        *("Model", "Method", "File", "Size", "Ratio", "Download", "Top-1", "fp32 top-1"),
        *("Latency", "On"),
    )
    return table(
        columns,
        (
            (
                f"{row.model}, {row.dataset}",
                f"{row.method} (smoke run)" if report.smoke else row.method,
                f"{row.format}, {row.precision}",
                bytes_text(row.file_bytes),
                shown(row.ratio, times_text),
                bytes_text(row.download_bytes),
                shown(row.top1, share_text),
                shown(row.top1_fp32, share_text),
                _latency(row),
                _machine(report, row),
            )
            for report, row in rows
        ),
        left=3,
    )


def containers_table(reports: Sequence[Report]) -> str:
    """One Markdown table of the Deep Compression containers of several reports, sorted as above."""
    rows = [(report, row) for report in reports for row in report.rows if row.format == "dc"]
    rows.sort(key=lambda x: (x[1].model, x[1].dataset, -x[1].file_bytes, x[1].path, x[0].recipe))
    columns = (
        "Model",
        "Recipe",
        "Weights",
        "Container",
        "Ratio",
        "Top-1",
        "fp32 top-1",
        "Pictures",
    )
    return table(
        columns,
        (
            (
                f"{row.model}, {row.dataset}",
                f"{report.recipe} (smoke run)" if report.smoke else report.recipe,
                row.precision,
                f"{row.file_bytes:,} B",
                shown(row.ratio, times_text),
                shown(row.top1, share_text),
                shown(row.top1_fp32, share_text),
                _pictures(row),
            )
            for report, row in rows
        ),
        left=3,
    )


def packed_table(reports: Sequence[Report]) -> str:
    """One Markdown table of the packed files of several reports."""
    return table(PACKED_COLUMNS, packed_rows(reports), left=2)


def devices_table(reports: Sequence[Report]) -> str:
    """One Markdown table of the files that were measured on further targets."""
    return table(device_columns(reports), device_rows(reports), left=2)


def int8_table(reports: Sequence[Report]) -> str:
    """One Markdown table of the integer files of several reports, by model and file."""
    return table(INT8_COLUMNS, int8_rows(reports), left=2)


def _pictures(row: Row) -> str:
    """Those right in one of the two files alone, of all."""
    if row.won is None or row.lost is None or row.samples is None:
        return MISSING
    return f"{row.lost} lost, {row.won} won of {row.samples:,}"


def _latency(row: Row) -> str:
    if row.latency_ms is None:
        return MISSING
    noisy = " (noisy)" if row.noisy else ""
    return f"{time_text(row.latency_ms.median)}{noisy}"


def _machine(report: Report, row: Row) -> str:
    """What a time is worth nothing without: runtime, threads, processor."""
    if row.latency_ms is None:
        return MISSING
    cpu = report.environment.get("cpu") or row.device
    return f"{row.runtime}, {threads_text(row.threads)}, {cpu}"
