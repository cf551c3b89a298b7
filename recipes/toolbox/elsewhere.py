"""A report's files on further targets: boards, accelerators, more threads, an emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from recipes.toolbox.progress import counted_bar
from targets.artifact import Artifact
from targets.bench import jobs_for
from targets.bench_log import BenchLog
from targets.device_results import device_results
from targets.devices.naming import target_named
from targets.fleet import measure_all
from targets.measurement import Plan, Target
from targets.onboard.engine import runs
from targets.report import Report

BENCH = "bench.jsonl"
"""The log of these measurements in a run's folder."""


def named_targets(
    names: Sequence[str],
    threads: Sequence[int] = (1,),
    cpus: tuple[int, ...] = (),
    python: str | None = None,
) -> Iterator[Target]:
    """Each target with each number of threads; an emulator counts one thread only.

    python: the interpreter on boards. DeviceError for a name that is none.
    """
    for name in dict.fromkeys(names):
        target = target_named(name, 1, cpus, python)
        counted = target.device.provenance == "emulated"
        yield from (replace(target, threads=n) for n in ((1,) if counted else threads))


def with_targets(
    report: Report, files: Sequence[Artifact], targets: Sequence[Target], plan: Plan, log: Path
) -> Report:
    """The report with the files measured on `targets`, and what could not be, with the reason."""
    if not targets:
        return report
    jobs = [job for job in jobs_for(files, targets) if job.path.suffix in runs(job.target.engine)]
    with counted_bar("measuring on other targets") as progress:
        found, failures = measure_all(jobs, plan, BenchLog(log), progress)
    missing = (*report.not_measured, *(f"{failure.job}: {failure.reason}" for failure in failures))
    return replace(report, elsewhere=device_results(found), not_measured=missing)
