"""A report's files on further targets: boards, accelerators, more threads, an emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import EdgepressError
from compress.task import Task
from recipes.toolbox.progress import bar, counted_bar
from targets.agreement import Agreement, outputs_against
from targets.artifact import Artifact
from targets.bench import Job, jobs_for
from targets.bench_log import BenchLog
from targets.device_results import device_results
from targets.devices.naming import target_named
from targets.fleet import Failure, measure_all
from targets.measurement import Plan, Target
from targets.report import Report

BENCH = "bench.jsonl"
"""The log of these measurements in a run's folder."""
_PICTURES = 8


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Targets besides this machine with one thread; pictures float32 (N, C, H, W) to compare on."""

    targets: tuple[Target, ...] = ()
    pictures: NDArray[np.float32] | None = None


def some_pictures(task: Task) -> NDArray[np.float32] | None:
    """The first few that calibrate; None where the task has none."""
    batch = None if task.calibration is None else next(iter(task.calibration()), None)
    return None if batch is None else np.asarray(batch[:_PICTURES], np.float32)


def named_targets(
    names: Sequence[str],
    threads: Sequence[int] = (1,),
    cpus: tuple[int, ...] = (),
    python: str | None = None,
    software_gpu: bool = False,
) -> Iterator[Target]:
    """Each target with each number of threads; an emulator counts one thread only.

    python: the interpreter on boards. software_gpu: see Target. DeviceError for a name that is
    none.
    """
    found = (target_named(name, 1, cpus, python) for name in names)
    for target in dict.fromkeys(replace(one, software_gpu=software_gpu) for one in found):
        counted = target.device.provenance == "emulated"
        once = (1,) if counted else dict.fromkeys(threads)
        yield from (replace(target, threads=n) for n in once)


def with_targets(
    report: Report, files: Sequence[Artifact], wanted: Elsewhere, plan: Plan, log: Path
) -> Report:
    """The report with the files measured on further targets, and what could not be, and why."""
    if not wanted.targets:
        return report
    jobs = [job for job in jobs_for(files, wanted.targets) if job.fits]
    kept = BenchLog(log)
    with counted_bar("measuring on other targets") as progress:
        found, failures = measure_all(jobs, plan, kept, progress)
    failed = [failure.job for failure in failures]
    asked = [job for job in jobs if job not in failed and _elsewhere(job.target)]
    agreements, silent = _outputs(asked, wanted.pictures, kept, plan)
    missing = (*report.not_measured, *(f"{f.job}: {f.reason}" for f in (*failures, *silent)))
    results = device_results(found, agreements)
    return replace(report, elsewhere=results, not_measured=missing)


def _elsewhere(target: Target) -> bool:
    """Whether outputs may differ from this machine's processor's; they do not with threads."""
    return target.name != "local"


def _outputs(
    jobs: Sequence[Job], pictures: NDArray[np.float32] | None, log: BenchLog, plan: Plan
) -> tuple[list[Agreement], list[Failure]]:
    """Each file's outputs on each target beside this machine's, once whatever the threads."""
    found: list[Agreement] = []
    failures: list[Failure] = []
    once = {(job.path, job.target.name): job for job in reversed(jobs)}
    if pictures is None:
        return found, failures
    part = f"outputs {sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()}"
    for job in bar(list(once.values()), "comparing outputs on other targets"):
        known = log.answer(job, plan, part)
        try:
            if known is None:
                known = asdict(outputs_against(job.path, job.target, pictures))
                log.append(job, plan, part, known)
            found.append(Agreement(**known))
        except EdgepressError as error:
            failures.append(Failure(job, str(error)))
    return found, failures
