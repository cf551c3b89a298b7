"""Benchmark: interleaved rounds of several processes for each file, all raw times kept.

Files are taken in turn (A B A B ...), one process and one session each time, and every other
round in the opposite order: what the machine does meanwhile falls on all files alike. A file is
judged by the median over all its calls.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from compress.errors import DeviceError
from targets.artifact import Artifact, file_sha256
from targets.asking import Answer, ask_runner
from targets.measurement import Measurement, Plan, Target
from targets.onboard.counting import fewest, spread
from targets.onboard.engine import runs

RUNNABLE = (".onnx", ".tflite")
"""Files that a stock runtime loads. Containers are run by eager torch alone, as the baseline."""

Progress = Callable[[int, int, str], None]
"""Called before each process with (done, total, file name), and once at the end."""

_N = TypeVar("_N", int, float)


class Job(NamedTuple):
    """A file, its SHA-256, a target to measure it on, and what to call it (see `_names`)."""

    path: Path
    sha256: str
    target: Target
    name: str

    def __str__(self) -> str:
        return f"{self.name} on {self.target.name}"

    @property
    def fits(self) -> bool:
        """Whether the target's engine runs files of this kind."""
        return self.path.suffix in runs(self.target.engine)


def benchmark(
    files: Sequence[Artifact | Path],
    targets: Sequence[Target],
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> tuple[Measurement, ...]:
    """Measure every runnable file on every target; results file by file, targets within.

    Raises DeviceError naming the file when the runtime cannot load or run it, or when it is no
    longer the file that the artifact says it is; MissingExtraError where the runtime is missing.
    """
    plan = plan or Plan()
    jobs = jobs_for(files, targets)
    answers: list[list[Answer]] = [[] for _ in jobs]
    total = plan.rounds * len(jobs)
    for done, (_, i) in enumerate(turns(len(jobs), plan.rounds)):
        if progress is not None:
            progress(done, total, jobs[i].name)
        answers[i].append(ask(jobs[i], plan))
    if progress is not None:
        progress(total, total, "")
    return tuple(summarize(job, own) for job, own in zip(jobs, answers, strict=True))


def jobs_for(files: Sequence[Artifact | Path], targets: Sequence[Target]) -> list[Job]:
    """Every runnable file on every target. DeviceError where a file is gone or has changed."""
    wanted = {_path(f): f for f in files if any(_runs(_path(f), t) for t in targets)}
    digests = {path: _digest(file) for path, file in wanted.items()}
    names = _names(list(wanted))
    return [
        Job(path, digests[path], target, names[path])
        for path in digests
        for target in targets
        if _runs(path, target)
    ]


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Each file's name, behind as many of its folders as tell it from the others."""
    whole = {path: path.resolve().parts for path in paths}
    names: dict[Path, str] = {}
    for path, parts in whole.items():
        others = [other for other in whole.values() if other != parts]
        enough = (n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others))
        names[path] = "/".join(parts[-next(enough, len(parts)) :])
    return names


def _runs(path: Path, target: Target) -> bool:
    """Containers only on the engines that are made for them; a stock file's error is told."""
    return path.suffix in RUNNABLE or path.suffix in runs(target.engine)


def turns(jobs: int, rounds: int) -> Iterator[tuple[int, int]]:
    """(round, job): all jobs in turn in each round, every other round backwards."""
    for round_ in range(rounds):
        order = range(jobs) if round_ % 2 == 0 else reversed(range(jobs))
        yield from ((round_, i) for i in order)


def _path(file: Artifact | Path) -> Path:
    return file if isinstance(file, Path) else file.path


def _digest(file: Artifact | Path) -> str:
    """The SHA-256 of the file as it is now, which must be the artifact's."""
    path = _path(file)
    if not path.is_file():
        raise DeviceError(f"{path} is not there to be measured; export it first")
    digest = file_sha256(path)
    if not isinstance(file, Path) and digest != file.sha256:
        raise DeviceError(
            f"{path} has changed since it was exported (sha256 {digest[:12]}, not "
            f"{file.sha256[:12]}); export it again"
        )
    return digest


def ask(job: Job, plan: Plan) -> Answer:
    """One process of the job. DeviceError where it cannot be measured, MissingExtraError."""
    request = {
        "cpus": job.target.cpus,
        "runs": plan.runs,
        "warmup_s": plan.warmup_s,
        "max_s": plan.max_s,
        "seed": plan.seed,
    }
    return ask_runner(job.path, job.target, request, plan.timeout_s)


def summarize(job: Job, answers: Sequence[Answer]) -> Measurement:
    """The answers of one job's processes, in the order of the rounds, as a Measurement."""
    target = job.target
    first = answers[0]
    counts = [count for a in answers for count in a.get("counts", ())]
    return Measurement(
        file=job.name,
        sha256=job.sha256,
        runtime=first["runtime"],
        runtime_version=first["version"],
        provider=first["provider"],
        device=target.device.name,
        threads=target.threads,
        engine=target.engine,
        load_ms=statistics.median(a["load_ns"] for a in answers) / 1e6,
        first_ms=statistics.median(a["first_ns"] for a in answers) / 1e6,
        times_ms=tuple(tuple(ns / 1e6 for ns in a["times_ns"]) for a in answers),
        warmups=tuple(a["warmup"] for a in answers),
        settled=all(a["settled"] for a in answers),
        peak_rss_bytes=_extreme(max, [a["peak_rss_bytes"] for a in answers]),
        rss_base_bytes=_extreme(min, [a["rss_base_bytes"] for a in answers]),
        provenance=target.device.provenance,
        environment=_environment(answers),
        rss_load_bytes=_extreme(statistics.median_low, [a["rss_load_bytes"] for a in answers]),
        peak_rss_load_bytes=_extreme(max, [a["peak_rss_load_bytes"] for a in answers]),
        untimed=first["untimed"],
        throttled=_any([a["throttled"] for a in answers]),
        instructions=fewest(counts) if counts else None,
        instructions_spread=spread(counts) if counts else None,
        resident_ms=_median_ms([ns for a in answers for ns in a.get("resident_ns", ())]),
        accelerator=first.get("accelerator"),
    )


def _median_ms(times_ns: Sequence[int]) -> float | None:
    return statistics.median(times_ns) / 1e6 if times_ns else None


def _extreme(pick: Callable[[list[_N]], _N], values: list[_N | None]) -> _N | None:
    known = [v for v in values if v is not None]
    return pick(known) if known else None


def _any(values: Sequence[bool | None]) -> bool | None:
    """True where one is; None where none is and some are not known."""
    return True if any(values) else None if None in values else False


def _environment(answers: Sequence[Answer]) -> dict[str, str | int | float | None]:
    """The device as it first said, and the worst of what changes.

    The highest load average (above the number of cores the machine was busy), the lowest clock
    and the highest temperature at the end of a process's timed calls.
    """
    ends = [a["clocks"][-1] for a in answers]
    return {
        **answers[0]["environment"],
        "load_average": _extreme(max, [a["environment"]["load_average"] for a in answers]),
        "clock_mhz": _extreme(min, [end["clock_mhz"] for end in ends]),
        "temperature_c": _extreme(max, [end["temperature_c"] for end in ends]),
        "spinning": "no",
    }
