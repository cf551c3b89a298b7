"""Benchmark: interleaved rounds of several processes for each file, all raw times kept.

Files are taken in turn (A B A B ...), one process and one session each time, and every other
round in the opposite order: what the machine does meanwhile falls on all files alike. A file is
judged by the median over all its calls.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from compress.errors import DeviceError, MissingExtraError
from targets.artifact import Artifact, file_sha256
from targets.device import Completed
from targets.measurement import Measurement, Plan, Target
from targets.onboard.counting import fewest, spread
from targets.onboard.main import END
from targets.runner_file import runner_file
from targets.runtimes.onnx_age import too_new

RUNNABLE = (".onnx", ".tflite")
"""Files that a stock runtime loads. Others (containers) are decoded first and not measured."""

# What to install for a runtime that the runner misses.
_BRINGS = {"ai_edge_litert": "edgepress[litert]", "onnxruntime": "edgepress"}

Progress = Callable[[int, int, str], None]
"""Called before each process with (done, total, file name), and once at the end."""

_N = TypeVar("_N", int, float)


class Job(NamedTuple):
    """A file, its SHA-256, and a target to measure it on."""

    path: Path
    sha256: str
    target: Target

    def __str__(self) -> str:
        return f"{self.path.name} on {self.target.name}"


Answer = Mapping[str, Any]
"""What the runner says of one process (see targets.onboard)."""


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
            progress(done, total, jobs[i].path.name)
        answers[i].append(ask(jobs[i], plan))
    if progress is not None:
        progress(total, total, "")
    return tuple(summarize(job, own) for job, own in zip(jobs, answers, strict=True))


def jobs_for(files: Sequence[Artifact | Path], targets: Sequence[Target]) -> list[Job]:
    """Every runnable file on every target. DeviceError where a file is gone or has changed."""
    digests = {_path(file): _digest(file) for file in files if _path(file).suffix in RUNNABLE}
    return [Job(path, digests[path], target) for path in digests for target in targets]


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
    device, target = job.target.device, job.target
    request = {
        "path": device.push(job.path),
        "engine": target.engine,
        "threads": target.threads,
        "cpus": target.cpus,
        "runs": plan.runs,
        "warmup_s": plan.warmup_s,
        "max_s": plan.max_s,
        "seed": plan.seed,
    }
    command = [device.python, device.push(runner_file()), json.dumps(request)]
    return _answer(job.path, target, device.run(command, plan.timeout_s))


def _answer(path: Path, target: Target, completed: Completed) -> dict[str, Any]:
    """The runner's JSON line: the last line on stdout (a runtime may have written others)."""
    lines = completed.stdout.strip().splitlines()
    try:
        answer: object = json.loads(lines[-1])
    except (IndexError, ValueError):
        answer = None
    if not isinstance(answer, dict) or cast("dict[str, Any]", answer).get("end") != END:
        last = (completed.stderr.strip().splitlines() or ["nothing"])[-1][:300]
        raise DeviceError(
            f"measuring {path.name} on {target.device.name} ended with status "
            f"{completed.status} and no result; its last words: {last}"
        )
    fields = cast("dict[str, Any]", answer)
    if "missing" in fields:
        missing = str(fields["missing"])
        wanted = _BRINGS.get(missing, missing)
        raise MissingExtraError(
            f"measuring {path.name} on {target.device.name} needs {missing}, which is not usable "
            f"there ({fields['error']}); run: pip install '{wanted}'"
        )
    if "error" in fields:
        said, where = str(fields["error"]), f"on {target.device.name}"
        newer = too_new(path.read_bytes(), where, said) if path.suffix == ".onnx" else None
        raise DeviceError(f"{path.name} {newer or f'cannot be measured {where}: {said}'}")
    return fields


def summarize(job: Job, answers: Sequence[Answer]) -> Measurement:
    """The answers of one job's processes, in the order of the rounds, as a Measurement."""
    target = job.target
    first = answers[0]
    counts = [count for a in answers for count in a.get("counts", ())]
    return Measurement(
        file=job.path.name,
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
    )


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
        "load_average": max(float(a["environment"]["load_average"]) for a in answers),
        "clock_mhz": _extreme(min, [end["clock_mhz"] for end in ends]),
        "temperature_c": _extreme(max, [end["temperature_c"] for end in ends]),
        "spinning": "no",
    }
