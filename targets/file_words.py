"""The files table in words: its columns, a row's cells, how to read them. For both renderings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from targets.report import Report
from targets.report_row import Row
from targets.units import (
    bytes_text,
    count_text,
    points_text,
    range_text,
    share_text,
    time_text,
    times_text,
    wilson,
)
from targets.words import MISSING, shown


class Cell(NamedTuple):
    """What a table shows: the value, and up to two lines of smaller text below it ('' for none)."""

    value: str
    detail: str = ""
    second: str = ""


def file_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns of the files table: what none of the rows has is left out."""
    # Of labelled pictures it stands below the change of top-1.
    agreement = any(row.agreement is not None and row.top1 is None for row in rows)
    labelled = any(row.top1 is not None for row in rows) or not agreement
    return (
        *("Precision", "File", "Ratio", "Download"),
        *(("Top-1", "Vs fp32") if labelled else ()),
        *(("Agreement",) if agreement else ()),
        *(("Test top-1",) if any(row.held_out is not None for row in rows) else ()),
        *("Load", "Latency", "Memory"),
    )


def file_cells(row: Row, columns: Sequence[str]) -> tuple[Cell, ...]:
    """The cells of one file, in the order of `columns`."""
    cells = {
        "Precision": Cell(row.precision, row.method),
        "File": Cell(bytes_text(row.file_bytes), f"{count_text(row.file_bytes)} B"),
        "Ratio": Cell(shown(row.ratio, times_text)),
        "Download": _download(row),
        "Top-1": _top1(row),
        "Vs fp32": _against(row),
        "Agreement": _agreement(row),
        "Test top-1": _held_out(row),
        "Load": _time(row.load_ms, row.first_ms),
        "Latency": _latency(row),
        "Memory": _memory(row),
    }
    return tuple(cells[name] for name in columns)


def _download(row: Row) -> Cell:
    known = (("brotli", row.brotli_bytes), ("zstd", row.zstd_bytes))
    others = (f"{name} {bytes_text(size)}" for name, size in known if size is not None)
    return Cell(bytes_text(row.download_bytes), *others)


def _top1(row: Row) -> Cell:
    if row.top1 is None:
        return Cell(MISSING)
    if row.samples is None:
        return Cell(share_text(row.top1))
    low, high = wilson(row.top1, row.samples)
    return Cell(share_text(row.top1), f"{100 * low:.2f}–{100 * high:.2f}")


def _against(row: Row) -> Cell:
    if row.top1 is None or row.top1_fp32 is None:
        return Cell(MISSING)
    images = "" if row.won is None or row.lost is None else f"{row.won} won, {row.lost} lost"
    same = "" if row.agreement is None else f"same {share_text(row.agreement)}"
    return Cell(points_text(row.top1 - row.top1_fp32), images, same)


def _agreement(row: Row) -> Cell:
    if row.agreement is None:
        return Cell(MISSING)
    estimate = ""
    if row.top1 is None and row.estimated_drop is not None:
        estimate = f"est. {points_text(-row.estimated_drop)} points"
    return Cell(share_text(row.agreement), estimate)


def _held_out(row: Row) -> Cell:
    held = row.held_out
    if held is None:
        return Cell(MISSING)
    change = points_text(held.top1 - held.top1_fp32)
    return Cell(share_text(held.top1), f"{change}: {held.won} won, {held.lost} lost")


def _time(load_ms: float | None, first_ms: float | None) -> Cell:
    first = "" if first_ms is None else f"first {time_text(first_ms)}"
    return Cell(MISSING) if load_ms is None else Cell(time_text(load_ms), first)


def _latency(row: Row) -> Cell:
    if row.latency_ms is None:
        return Cell(MISSING)
    latency = row.latency_ms
    return Cell(time_text(latency.median), range_text(latency.p10, latency.p90))


def _memory(row: Row) -> Cell:
    if row.peak_rss_bytes is None:
        return Cell(MISSING)
    base = row.rss_base_bytes
    if base is None:
        return Cell(bytes_text(row.peak_rss_bytes))
    loaded = ""
    if row.rss_load_bytes is not None:
        loaded = f"loaded +{bytes_text(max(0, row.rss_load_bytes - base))}"
    own = f"+{bytes_text(max(0, row.peak_rss_bytes - base))}"
    return Cell(bytes_text(row.peak_rss_bytes), own, loaded)


def file_notes(report: Report) -> str:
    """How to read the files table."""
    scored = _scores_notes(report)
    return (
        "Ratio: fp32 weights to file. Download: the file deflated at level 9, as an app store "
        f"sends it{_over_the_air(report)}. {scored}Latency: median and p10–p90 of single images. "
        "Memory: peak of the whole measuring process (+ what loading and running the file added"
        f"{_once_loaded(report)}). Load: opening the file, and the first run after it. kB and MB "
        "are decimal."
    )


def _over_the_air(report: Report) -> str:
    sent = any(row.brotli_bytes or row.zstd_bytes for row in report.rows)
    return ", and by brotli 11 and zstd 19, as over the air" if sent else ""


def _once_loaded(report: Report) -> str:
    known = any(row.rss_load_bytes is not None for row in report.rows)
    return "; loaded: what stays once it is loaded" if known else ""


def _scores_notes(report: Report) -> str:
    """On which pictures the scores are, and what they say."""
    rows = report.rows
    samples = sorted({r.samples for r in rows if r.samples})
    images = f"{' or '.join(count_text(n) for n in samples)} {report.scored_on}"
    said: list[str] = []
    if any(r.top1 is not None for r in rows):
        said.append(f"Top-1 on {images}, with its 95 % Wilson interval. ")
    if any(r.agreement is not None and r.top1 is None for r in rows):
        said.append(
            f"Agreement: on how many of {images} the file's first class is the original's. "
        )
    elif any(r.agreement is not None for r in rows):
        said.append("Same: how often the file's first class is the fp32 file's. ")
    if any(r.top1 is None and r.estimated_drop is not None for r in rows):
        said.append(
            "Est.: the change of top-1 that follows if the original's own probabilities are right. "
        )
    held = sorted({r.held_out.samples for r in rows if r.held_out})
    if held:
        count = " or ".join(count_text(n) for n in held)
        said.append(f"Test top-1 on {count} labelled pictures that no choice was made on. ")
    return "".join(said)
