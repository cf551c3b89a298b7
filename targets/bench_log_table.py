"""Logs of benches read again, wherever they were made: what they measured, as one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from compress.errors import OutputError
from targets.bench import Answer, Job, summarize
from targets.bench_log import BenchLog, Part
from targets.bench_table import placement, ratio_text
from targets.devices.naming import target_named
from targets.markdown import table
from targets.measurement import Measurement, ratio
from targets.units import bytes_text, count_text, threads_text, time_text
from targets.words import MISSING

_COLUMNS = (
    *("File", "Target", "Measured on", "A picture", "Input in its memory", "Of the first's"),
    *("Left to the processor", "Loading", "Peak memory"),
)


class _Logged(NamedTuple):
    """A file's measurement; `place`: all that two files must share to be compared."""

    found: Measurement
    place: str
    cpus: tuple[int, ...]


def log_table(paths: Iterable[Path]) -> str:
    """Markdown: each file beside the first of the same format and target in its log.

    Of what was measured twice, with other runtimes or on another machine, the latter stands alone.
    Raises OutputError for a path that is no log, or one with a damaged line.
    """
    return table(_COLUMNS, [row for path in paths for row in _rows(path)], left=3)


def _rows(path: Path) -> list[tuple[str, ...]]:
    if not path.is_file():
        raise OutputError(f"{path} is not there; give the --out of a bench")
    try:
        logged = [_logged(key, rounds) for key, rounds in _rounds(path).items()]
        return [_cells(one, _first(one, logged)) for one in logged]
    except OutputError:
        raise
    except Exception as error:  # whatever comes of numbers that are not there or are none
        raise OutputError(f"{path} has a damaged line ({error}); measure again") from error


def _rounds(path: Path) -> dict[str, list[Answer]]:
    """The answers by key, of the machine and runtimes of each key's last line alone."""
    lines = [line for line in BenchLog(path, past=True).lines() if isinstance(line.part, int)]
    last = {line.key: line.here for line in lines}
    kept: dict[str, dict[Part, Answer]] = {key: {} for key in last}
    for line in lines:
        if line.here == last[line.key]:
            kept[line.key][line.part] = line.answer
    return {key: [rounds[part] for part in sorted(rounds)] for key, rounds in kept.items()}


def _logged(key: str, answers: Sequence[Answer]) -> _Logged:
    """`key` as bench_log makes it; the file need not be here."""
    name, sha256, *how = json.loads(key)
    target, python, software_gpu, threads, cpus, *_ = how
    where = target_named(str(target), int(threads), tuple(cpus), python)
    job = Job(Path(name), sha256, replace(where, software_gpu=bool(software_gpu)), name)
    return _Logged(summarize(job, answers), json.dumps([Path(name).suffix, *how]), where.cpus)


def _first(one: _Logged, logged: Sequence[_Logged]) -> Measurement:
    return next(other.found for other in logged if other.place == one.place)


def _cells(one: _Logged, first: Measurement) -> tuple[str, ...]:
    m = one.found
    memory = m.peak_rss_bytes if m.provenance == "measured" else None
    kept_on = f", on {', '.join(map(str, one.cpus))}" if one.cpus else ""
    return (
        m.file,
        f"{m.target}, {threads_text(m.threads)}{kept_on}",
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
        return m.untimed or m.provenance
    doubt = "the clock fell" if m.throttled else "noisy" if m.noisy else ""
    return ", ".join(filter(None, (time_text(m.median_ms), doubt, "" if m.settled else "not warm")))


def _compared(m: Measurement, first: Measurement) -> str:
    if m is first:
        return MISSING
    if m.instructions is not None and first.instructions is not None:
        return f"{m.instructions['insns'] / first.instructions['insns']:.3f}"
    return ratio_text(ratio(m, first)) if m.timed and first.timed else MISSING


def _left(m: Measurement) -> str:
    placed = placement(m)
    if placed is None:
        return MISSING
    return f"{sum(placed.left.values())} of {placed.nodes} nodes, {placed.copies} copies"
