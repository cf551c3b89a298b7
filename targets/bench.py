"""Benchmark: interleaved rounds of several processes for each file, all raw times kept.

Files are taken in turn (A B A B ...), one process and one session each time, and every other
round in the opposite order: what the machine does meanwhile falls on all files alike. A file is
judged by the median over all its calls.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from compress.errors import DeviceError, MissingExtraError
from targets.artifact import Artifact, file_sha256
from targets.device import Completed
from targets.measurement import Measurement, Plan, Target
from targets.onboard.main import END
from targets.runner_file import runner_file
from targets.runtimes.onnx_age import too_new

RUNNABLE = (".onnx", ".tflite")
"""Files that a stock runtime loads. Others (containers) are decoded first and not measured."""

# What to install for a runtime that the runner misses.
_BRINGS = {"ai_edge_litert": "edgepress[litert]", "onnxruntime": "edgepress"}

Progress = Callable[[int, int, str], None]
"""Called before each process with (done, total, file name), and once at the end."""

_Job = tuple[Path, Target]
_N = TypeVar("_N", int, float)


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
    digests = {_path(file): _digest(file) for file in files if _path(file).suffix in RUNNABLE}
    jobs: list[_Job] = [(path, target) for path in digests for target in targets]
    answers: dict[int, list[dict[str, Any]]] = {i: [] for i in range(len(jobs))}
    commands = [_command(path, target, plan) for path, target in jobs]
    total = plan.rounds * len(jobs)
    done = 0
    for round_ in range(plan.rounds):
        order = range(len(jobs)) if round_ % 2 == 0 else reversed(range(len(jobs)))
        for i in order:
            path, target = jobs[i]
            if progress is not None:
                progress(done, total, path.name)
            completed = target.device.run(commands[i], plan.timeout_s)
            answers[i].append(_answer(path, target, completed))
            done += 1
    if progress is not None:
        progress(done, total, "")
    return tuple(
        _summarize(path, digests[path], target, answers[i]) for i, (path, target) in enumerate(jobs)
    )


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


def _command(path: Path, target: Target, plan: Plan) -> list[str]:
    device = target.device
    request = {
        "path": device.push(path),
        "engine": target.engine,
        "threads": target.threads,
        "cpus": target.cpus,
        "runs": plan.runs,
        "warmup_s": plan.warmup_s,
        "max_s": plan.max_s,
        "seed": plan.seed,
    }
    return [device.python, device.push(runner_file()), json.dumps(request)]


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


def _summarize(
    path: Path, digest: str, target: Target, answers: Sequence[Mapping[str, Any]]
) -> Measurement:
    first = answers[0]
    return Measurement(
        file=path.name,
        sha256=digest,
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
    )


def _extreme(pick: Callable[[list[_N]], _N], values: list[_N | None]) -> _N | None:
    known = [v for v in values if v is not None]
    return pick(known) if known else None


def _any(values: Sequence[bool | None]) -> bool | None:
    """True where one is; None where none is and some are not known."""
    return True if any(values) else None if None in values else False


def _environment(answers: Sequence[Mapping[str, Any]]) -> dict[str, str | int | float | None]:
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
