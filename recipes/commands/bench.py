"""edgepress bench: latency, load time and memory of model files, measured side by side."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from compress.errors import DeviceError
from recipes.toolbox.elsewhere import named_targets
from recipes.toolbox.progress import counted_bar
from targets.bench import RUNNABLE, Job, jobs_for
from targets.bench_again import again_table
from targets.bench_log import BenchLog
from targets.bench_table import table
from targets.devices.naming import target_named
from targets.fleet import measure_all, remembered
from targets.measurement import Plan, Target
from targets.onboard.engine import runs


def execute(arguments: argparse.Namespace) -> None:
    """Measure `arguments.files` on each target and thread count; print a table, or JSON.

    DeviceError at the end where something could not be measured: what could has been printed.
    """
    how = (arguments.threads, arguments.cpus, arguments.python, arguments.allow_software_gpu)
    targets = list(named_targets(arguments.target or ("local",), *how))
    files = list(_files(arguments.files, {e for t in targets for e in runs(t.engine)}))
    plan = Plan(runs=arguments.runs, rounds=arguments.rounds, timeout_s=arguments.timeout)
    earlier = _earlier(arguments)
    log = BenchLog(arguments.out) if arguments.out is not None else None
    jobs = [job for job in jobs_for(files, targets) if job.fits]
    _tell_left_out(files, targets, jobs)
    with counted_bar("measuring") as progress:
        found, failures = measure_all(jobs, plan, log, progress)
    if arguments.json:
        print(json.dumps([asdict(m) for m in found], indent=1))
    elif found:
        print(table(found))
    if earlier is not None:
        print(again_table(remembered(jobs, plan, earlier), found))
    reasons = list(dict.fromkeys(failure.reason for failure in failures))
    for reason in reasons[:-1]:
        print(f"edgepress: {reason}", file=sys.stderr)
    if reasons:
        raise DeviceError(reasons[-1])


def _earlier(arguments: argparse.Namespace) -> BenchLog | None:
    """The log to hold the bench against. DeviceError where it is none or cannot be."""
    path: Path | None = arguments.against
    if path is None:
        return None
    if arguments.json:
        raise DeviceError("--against prints a table; leave --json away")
    if not path.is_file():
        raise DeviceError(f"{path} is not there; give the --out of an earlier bench")
    if arguments.out is not None and arguments.out.resolve() == path.resolve():
        raise DeviceError(f"{path} is --out and --against; give --out a new file")
    return BenchLog(path, past=True)


def _files(paths: Sequence[Path], endings: Collection[str]) -> Iterator[Path]:
    """The files, and those of the folders, that an engine runs."""
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix in endings and p.is_file())
            if not inside:
                known = " or ".join(sorted(endings, reverse=True))
                raise DeviceError(f"{path} holds no {known} file; give another")
            yield from inside
        elif path.suffix in {*RUNNABLE, *endings}:
            yield path
        else:
            hint = f"; run `edgepress unpack {path}` first" if path.suffix == ".dc" else ""
            raise DeviceError(
                f"{path} cannot be measured: a stock runtime loads {' and '.join(RUNNABLE)}{hint}"
            )


def _tell_left_out(files: Sequence[Path], targets: Sequence[Target], jobs: Sequence[Job]) -> None:
    """A line for each target that does not run all files; DeviceError where nothing is left."""
    for target in dict.fromkeys(t.name for t in targets):
        ran = {job.path for job in jobs if job.target.name == target}
        missed = [path.name for path in files if path not in ran]
        if missed:
            endings = " and ".join(runs(target_named(target).engine))
            said = f"{target} runs {endings} files: not {', '.join(missed)}"
            if not jobs:
                raise DeviceError(f"{said}; give others, or another target")
            print(f"edgepress: {said}", file=sys.stderr)
