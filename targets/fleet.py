"""Many devices at once: each measures its files in turn, and one that dies loses only its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from compress.errors import EdgepressError, OutputError
from targets.bench import Answer, Job, Progress, ask, summarize, turns
from targets.bench_log import BenchLog
from targets.device import Device
from targets.measurement import Measurement, Plan

THIS_MACHINE = "local"


@dataclass(frozen=True)
class Failure:
    """A job that gave no measurement, or one that could not be kept, and why, in one line."""

    job: Job
    reason: str


@dataclass
class _Run:
    """What all devices of one bench share; the lock guards what they write."""

    jobs: Sequence[Job]
    plan: Plan
    log: BenchLog | None
    progress: Progress | None
    answers: dict[int, dict[int, Answer]] = field(default_factory=dict[int, dict[int, Answer]])
    failures: dict[int, str] = field(default_factory=dict[int, str])
    unkept: Failure | None = None
    done: int = 0
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def remember(self) -> None:
        """Take from the log what has run already."""
        for index, job in enumerate(self.jobs):
            for round_ in range(self.rounds(index)):
                answer = None if self.log is None else self.log.answer(job, self.plan, round_)
                if answer is not None:
                    self.answers.setdefault(index, {})[round_] = answer
                    self.done += 1

    def begin(self, index: int) -> None:
        with self.lock:
            if self.progress is not None:
                self.progress(self.done, self.total, str(self.jobs[index]))
            self.done += 1

    @property
    def total(self) -> int:
        """Processes in all."""
        return sum(self.rounds(index) for index in range(len(self.jobs)))

    def rounds(self, index: int) -> int:
        """One where no time counts: an emulator's count does not vary, a program's is none."""
        first = self.answers.get(index, {}).get(0)
        untimed = first is not None and first.get("untimed") is not None
        return 1 if untimed or _emulated(self.jobs[index]) else self.plan.rounds

    def measured(self) -> tuple[Measurement, ...]:
        """The jobs that did not fail, from the answers of their rounds."""
        return tuple(
            summarize(job, [answers[r] for r in sorted(answers)])
            for index, job in enumerate(self.jobs)
            if index not in self.failures and (answers := self.answers.get(index))
        )

    def keep(self, index: int, round_: int, answer: Answer) -> None:
        """Remember an answer, in the log as well. A log that cannot be written is left as it is."""
        with self.lock:
            if self.log is not None and self.unkept is None:
                try:
                    self.log.append(self.jobs[index], self.plan, round_, answer)
                except OutputError as error:
                    self.unkept = Failure(
                        self.jobs[index], f"{error}; what came later is not in it"
                    )
            self.answers.setdefault(index, {})[round_] = answer


def measure_all(
    jobs: Sequence[Job],
    plan: Plan,
    log: BenchLog | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[Measurement, ...], tuple[Failure, ...]]:
    """Measure the jobs; (what was measured, what failed), each in the order of the jobs.

    Devices work side by side, the jobs of one take turns; what computes on this machine (an
    emulator, too) is one device. A file that fails is left out from then on; a device that no
    longer answers is given up. With `log`, each answer is kept as it comes, and none is asked for
    twice; where it can no longer be written, the rest is measured and the last failure says so.
    """
    run = _Run(jobs, plan, log, progress)
    run.remember()
    groups: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(_machine(job.target.device), []).append(index)
    if len(groups) == 1:
        _work(run, next(iter(groups.values())))  # here, where Ctrl-C arrives
    elif groups:
        _side_by_side(run, list(groups.values()))
    if progress is not None:
        progress(run.total, run.total, "")
    failures = [Failure(jobs[i], why) for i, why in sorted(run.failures.items())]
    return run.measured(), (*failures, *([run.unkept] if run.unkept else []))


def remembered(jobs: Sequence[Job], plan: Plan, log: BenchLog) -> tuple[Measurement, ...]:
    """What the log holds of the jobs, as they would be measured now, in their order."""
    run = _Run(jobs, plan, log, None)
    run.remember()
    return run.measured()


def _emulated(job: Job) -> bool:
    return job.target.device.provenance == "emulated"


def _machine(device: Device) -> str:
    return THIS_MACHINE if device.provenance == "emulated" else device.name


def _side_by_side(run: _Run, groups: list[list[int]]) -> None:
    with ThreadPoolExecutor(len(groups)) as pool:
        working = [pool.submit(_work, run, group) for group in groups]
        try:
            for future in working:
                future.result()
        finally:
            run.stopped = True  # on Ctrl-C: each device ends with the process that it runs


def _work(run: _Run, group: list[int]) -> None:
    """The jobs of one machine, those with a latency first: an emulator would disturb them."""
    for emulated in (False, True):
        own = [i for i in group if _emulated(run.jobs[i]) == emulated]
        for round_, place in turns(len(own), run.plan.rounds):
            index = own[place]
            if run.stopped:
                return
            if round_ >= run.rounds(index) or round_ in run.answers.get(index, {}):
                continue
            run.begin(index)
            if index not in run.failures:
                _once(run, index, round_, group)


def _once(run: _Run, index: int, round_: int, group: list[int]) -> None:
    """One process of one job; what goes wrong is noted."""
    try:
        answer = ask(run.jobs[index], run.plan)
    except EdgepressError as error:
        _note(run, index, str(error), group)
        return
    run.keep(index, round_, answer)


def _note(run: _Run, index: int, reason: str, group: list[int]) -> None:
    """Mark the job as failed, and where its device is gone, the device's other jobs."""
    device = run.jobs[index].target.device
    gone = None
    try:
        device.describe()
    except EdgepressError as error:
        gone = str(error)
    with run.lock:
        run.failures[index] = reason
        for other in group if gone is not None else ():
            job, answers = run.jobs[other], run.answers.get(other, {})
            if job.target.device.name == device.name and len(answers) < run.rounds(other):
                run.failures.setdefault(other, f"{device.name} was given up: {gone}")
