"""Logs of benches read again, wherever they were made: what they measured, as one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from compress.errors import EdgepressError, OutputError
from targets.bench import Answer, Job, summarize
from targets.bench_log import BenchLog
from targets.bench_table import ratio_text
from targets.devices.naming import target_named
from targets.markdown import table
from targets.measurement import Measurement, Target, ratio
from targets.units import bytes_text, count_text, threads_text, time_text
from targets.words import MISSING

_COLUMNS = (
    *("File", "Target", "Measured on", "A picture", "Input in its memory", "Of the first's"),
    *("Left to the processor", "Loading", "Peak memory"),
)


def measurements(path: Path) -> tuple[Measurement, ...]:
    """What the log at `path` holds, in the order in which it was begun. OutputError for no log."""
    if not path.is_file():
        raise OutputError(f"{path} is not there; give the --out of a bench")
    answers: dict[str, dict[int, Answer]] = {}
    for key, part, answer in BenchLog(path, past=True).answers():
        if isinstance(part, int):  # else it is outputs, not times
            answers.setdefault(key, {})[part] = answer
    try:
        return tuple(
            summarize(_job(key), [rounds[r] for r in sorted(rounds)])
            for key, rounds in answers.items()
        )
    except (EdgepressError, LookupError, TypeError, ValueError) as error:
        raise OutputError(f"{path} has a damaged line ({error}); measure again") from error


def _job(key: str) -> Job:
    """The job of a log's key (see bench_log); its file need not be here."""
    name, sha256, target, python, software_gpu, threads, cpus, *_ = json.loads(key)
    where = target_named(str(target), int(threads), tuple(cpus), python)
    asked = Target(where.device, where.threads, where.engine, where.cpus, bool(software_gpu))
    return Job(Path(name), str(sha256), asked, str(name))


def logged_table(logs: Iterable[Sequence[Measurement]]) -> str:
    """Markdown: each file beside the first of the same format and target in its log."""
    rows = [_cells(m, _first(m, found)) for found in logs for m in found]
    return table(_COLUMNS, rows, left=3)


def _first(m: Measurement, found: Sequence[Measurement]) -> Measurement:
    return next(one for one in found if _place(one) == _place(m))


def _place(m: Measurement) -> tuple[str, str, int, str]:
    return m.device, m.engine, m.threads, Path(m.file).suffix


def _cells(m: Measurement, first: Measurement) -> tuple[str, ...]:
    memory = m.peak_rss_bytes if m.provenance == "measured" else None
    return (
        m.file,
        f"{m.target}, {threads_text(m.threads)}",
        str((m.accelerator or {}).get("adapter") or m.environment.get("cpu") or MISSING),
        _cost(m),
        time_text(m.resident_ms) if m.timed and m.resident_ms is not None else MISSING,
        _compared(m, first),
        _left(m),
        time_text(m.load_ms) if m.timed else MISSING,
        MISSING if memory is None else bytes_text(memory),
    )


def _cost(m: Measurement) -> str:
    if m.instructions is not None:
        return f"{count_text(m.instructions['insns'])} instructions"
    if not m.timed:
        return str(m.untimed)
    return f"{time_text(m.median_ms)}{', noisy' if m.noisy else ''}"


def _compared(m: Measurement, first: Measurement) -> str:
    if m is first:
        return MISSING
    if m.instructions is not None and first.instructions is not None:
        return f"{m.instructions['insns'] / first.instructions['insns']:.3f}"
    return ratio_text(ratio(m, first)) if m.timed and first.timed else MISSING


def _left(m: Measurement) -> str:
    nodes, left = ((m.accelerator or {}).get(kind) for kind in ("nodes", "cpu_nodes"))
    if nodes is None or left is None:
        return MISSING
    copies = sum(((m.accelerator or {}).get("copies") or {}).values())
    return f"{sum(left.values())} of {sum(nodes.values())} nodes, {copies} copies"
