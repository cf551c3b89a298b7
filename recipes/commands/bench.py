"""edgepress bench: latency, load time and memory of model files, measured side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from compress.errors import DeviceError
from recipes.toolbox.progress import counted_bar
from targets.bench import RUNNABLE, benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Target, ratio

_HEAD = ("file", "threads", "median", "p10", "p90", "ratio [95 %]", "load", "peak memory")


def execute(arguments: argparse.Namespace) -> None:
    """Measure `arguments.files` on each thread count and print a table, or JSON."""
    for path in arguments.files:
        if path.suffix not in RUNNABLE:
            hint = f"; run `edgepress unpack {path}` first" if path.suffix == ".dc" else ""
            raise DeviceError(
                f"{path} cannot be measured: a stock runtime loads {' and '.join(RUNNABLE)}{hint}"
            )
    targets = [Target(LocalDevice(), threads) for threads in arguments.threads]
    plan = Plan(runs=arguments.runs, rounds=arguments.rounds)
    with counted_bar("measuring") as progress:
        found = benchmark(arguments.files, targets, plan, progress)
    if arguments.json:
        print(json.dumps([asdict(m) for m in found], indent=1))
    else:
        print(table(found))


def table(found: Sequence[Measurement]) -> str:
    """One line a measurement; ratios are to the first file at the same thread count."""
    rows = [_HEAD, *(_row(m, _baseline(m, found)) for m in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    notes = [_note(m) for m in found if m.noisy or not m.settled]
    return "\n".join(line.rstrip() for line in [*lines, *notes])


def _baseline(measured: Measurement, found: Sequence[Measurement]) -> Measurement:
    return next(m for m in found if m.threads == measured.threads)


def _row(m: Measurement, baseline: Measurement) -> tuple[str, ...]:
    compared = ""
    if m is not baseline:
        r = ratio(m, baseline)
        compared = f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]"
    memory = "not shown" if m.peak_rss_bytes is None else f"{m.peak_rss_bytes / 1e6:.0f} MB"
    times = (f"{t:.3f} ms" for t in (m.median_ms, m.p10_ms, m.p90_ms))
    return (m.file, str(m.threads), *times, compared, f"{m.load_ms:.1f} ms", memory)


def _note(m: Measurement) -> str:
    what = f"spread {m.spread:.0%} of the median" if m.noisy else "warm-up did not settle"
    return f"noisy: {m.file} at {m.threads} thread(s): {what}; measure on a quiet machine"
