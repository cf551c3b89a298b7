"""What both renderings say in the same words: a row's cells, its flags, the gaps by reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from targets.report import Layer, Report, Row, StepRow
from targets.units import (
    bytes_text,
    count_text,
    points_text,
    range_text,
    share_text,
    threads_text,
    time_text,
    times_text,
    wilson,
)

MISSING = "—"
SMOKE_BANNER = (
    "This was a smoke run: a few pictures, one epoch, hardly timed. It shows that everything "
    "works; its figures mean nothing."
)


class Cell(NamedTuple):
    """What a table shows: the value, and smaller text below it ('' for none)."""

    value: str
    detail: str = ""


STEP_COLUMNS = ("Stage", "Settings", "Touched", "Non-zero", "Validation top-1", "Time")


def file_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns of the files table: what none of the rows has is left out."""
    agreement = any(row.agreement is not None for row in rows)
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
        "Download": Cell(bytes_text(row.download_bytes)),
        "Top-1": _top1(row),
        "Vs fp32": _against(row),
        "Agreement": _agreement(row),
        "Test top-1": _held_out(row),
        "Load": _time(row.load_ms, row.first_ms),
        "Latency": _latency(row),
        "Memory": _memory(row),
    }
    return tuple(cells[name] for name in columns)


def shown(value: float | None, text: Callable[[float], str]) -> str:
    """The value as `text` writes it; a dash for what was not measured."""
    return MISSING if value is None else text(value)


def where_text(row: Row) -> str:
    """'onnxruntime 1.31.1, CPUExecutionProvider, local, 1 thread'; '' where it was not run."""
    if row.runtime is None:
        return ""
    parts = (row.runtime, row.provider, row.device, threads_text(row.threads))
    return ", ".join(part for part in parts if part)


def flags(row: Row) -> tuple[str, ...]:
    """'emulated' or 'modelled' where the time is not a measured one; 'noisy'."""
    kind = () if row.provenance in (None, "measured") else (str(row.provenance),)
    return (*kind, "noisy") if row.noisy else kind


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
    return Cell(points_text(row.top1 - row.top1_fp32), images)


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
    own = "" if base is None else f"+{bytes_text(max(0, row.peak_rss_bytes - base))}"
    return Cell(bytes_text(row.peak_rss_bytes), own)


def file_notes(report: Report) -> str:
    """How to read the files table."""
    scored = _scores_notes(report)
    return (
        "Ratio: fp32 weights to file. Download: the file deflated at level 9, as an app store "
        f"sends it. {scored}Latency: median and p10–p90 of single images. Memory: peak of the "
        "whole measuring process (+ what loading and running the file added). Load: opening the "
        "file, and the first run after it. kB and MB are decimal."
    )


def _scores_notes(report: Report) -> str:
    """On which pictures the scores are, and what they say."""
    rows = report.rows
    samples = sorted({r.samples for r in rows if r.samples})
    images = f"{' or '.join(count_text(n) for n in samples)} {report.scored_on}"
    said: list[str] = []
    if any(r.top1 is not None for r in rows):
        said.append(f"Top-1 on {images}, with its 95 % Wilson interval. ")
    if any(r.agreement is not None for r in rows):
        said.append(
            f"Agreement: on how many of {images} the file's first class is the original's. "
        )
    if any(r.top1 is None and r.estimated_drop is not None for r in rows):
        said.append(
            "Est.: the change of top-1 that follows if the original's own probabilities are right. "
        )
    held = sorted({r.held_out.samples for r in rows if r.held_out})
    if held:
        count = " or ".join(count_text(n) for n in held)
        said.append(f"Test top-1 on {count} labelled pictures that no choice was made on. ")
    return "".join(said)


def step_cells(step: StepRow, before: StepRow | None) -> tuple[str, str, str]:
    """top-1 on validation data, non-zeros with the change, layers touched."""
    top1 = step.metrics.get("top1")
    dropped = before is not None and before.nonzeros != step.nonzeros
    was = f" (was {count_text(before.nonzeros)})" if before is not None and dropped else ""
    touched = f"{len(step.touched)} layers" if len(step.touched) != 1 else "1 layer"
    return shown(top1, share_text), f"{count_text(step.nonzeros)}{was}", touched


def weights_and_rest(layers: Sequence[Layer]) -> tuple[list[Layer], list[Layer]]:
    """Tensors of two dimensions or more; and the rest (biases, norms), shown as a sum."""
    return [x for x in layers if len(x.shape) > 1], [x for x in layers if len(x.shape) <= 1]


def shape_text(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)


def fact(name: str, value: str | int | float | None) -> tuple[str, str]:
    """One line of the environment, with its unit in words: ('memory', '25.3 GB')."""
    if value is None:
        return name, "not shown"
    if name.endswith("_bytes") and isinstance(value, (int, float)):
        return name.removesuffix("_bytes"), bytes_text(value)
    return name.replace("_", " "), str(value)


def facts(report: Report) -> list[tuple[str, str]]:
    """The environment: the machine, then packages that are installed, sorted."""
    machine = (
        *("cpu", "machine", "cores", "governor", "memory_bytes", "load_average"),
        *("system", "python"),
    )
    known = [n for n in machine if n in report.environment]
    rest = [n for n in sorted(report.environment) if n not in machine]
    installed = [n for n in rest if report.environment[n] is not None]
    return [fact(name, report.environment[name]) for name in (*known, *installed)]


def gaps(report: Report) -> list[tuple[str, str]]:
    """(what was not measured, why), alike reasons joined: ('latency_ms of a.dc', 'no ...')."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        for reason in sorted(set(row.not_measured.values())):
            names = tuple(sorted(n for n, why in row.not_measured.items() if why == reason))
            files = grouped.setdefault((", ".join(names), reason), [])
            if row.path not in files:
                files.append(row.path)
    every = len({r.path for r in report.rows})
    lines = [
        (f"{names} of {'every file' if len(files) == every > 1 else ', '.join(files)}", reason)
        for (names, reason), files in grouped.items()
    ]
    lines += [
        (f"{step.stage} left {skipped.layer} alone", skipped.reason)
        for step in report.steps
        for skipped in step.skipped
    ]
    return lines + [(line, "") for line in report.not_measured]
