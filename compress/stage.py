"""Stages and the run that chains them: checked, measured, recorded, resumable."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np

from compress.atomic import sweep
from compress.candidate import Candidate, Skipped, Step
from compress.checkpoint import load_candidate, save_candidate
from compress.errors import CheckpointError, StageOrderError
from compress.task import Task

_VERSIONED = ("edgepress", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class StageResult:
    """What a stage gives: a new candidate, the layers it touched, those it skipped and why."""

    candidate: Candidate
    touched: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class Stage(Protocol):
    """A frozen dataclass: its fields are its configuration, its repr its report line."""

    changes: ClassVar[Literal["structure", "values"]]

    def __call__(self, candidate: Candidate, task: Task) -> StageResult: ...


def stage_name(stage: Stage) -> str:
    return type(stage).__name__


def refuse_encoded(stage: Stage, candidate: Candidate) -> None:
    """A structure stage works on dense float nets only; this one rule replaces a scheduler."""
    if candidate.encodings or candidate.activations:
        encoded = min(candidate.encodings, default="the activations")
        earlier = ", ".join(step.stage for step in candidate.history) or "none recorded"
        raise StageOrderError(
            f"{stage_name(stage)} changes the net's structure, but {encoded} is already encoded "
            f"(stages so far: {earlier}); put {stage_name(stage)} before pruning, sharing and "
            f"quantization"
        )


def run(
    candidate: Candidate,
    stages: Sequence[Stage],
    task: Task,
    *,
    folder: Path | None = None,
    resume: bool = False,
    begin: Callable[[Stage], None] | None = None,
    report: Callable[[Candidate], None] | None = None,
) -> Candidate:
    """Apply `stages` in order; after each: check the laws, measure, record a Step, checkpoint.

    With a `folder` each result is kept there; with `resume` a stage whose inputs, settings, task,
    seed and versions are unchanged is read back instead of run. `begin` is told each stage before
    it runs; `report` sees each new candidate,
    whose last Step is the stage's.
    """
    for position, stage in enumerate(stages):
        path = None
        if begin is not None:
            begin(stage)
        if folder is not None:
            sweep(folder)
            key = _resume_key(candidate, stage, task)
            path = folder / f"{position:02d}-{stage_name(stage)}-{key[:16]}.safetensors"
        if path is not None and resume and path.is_file():
            candidate = _read_back(candidate, path)
        else:
            candidate = _apply(candidate, stage, task, path)
        if report is not None:
            report(candidate)
    return candidate


def _apply(candidate: Candidate, stage: Stage, task: Task, path: Path | None) -> Candidate:
    scratch = None if path is None else path.with_suffix(".progress")
    begun = time.perf_counter()
    result = stage(candidate, replace(task, scratch=scratch))
    seconds = time.perf_counter() - begun
    result.candidate.check()
    parameters = result.candidate.network.parameters()
    step = Step(
        stage=stage_name(stage),
        settings=repr(stage),
        seconds=round(seconds, 3),
        touched=result.touched,
        skipped=result.skipped,
        metrics={k: float(v) for k, v in task.evaluate(result.candidate.predict).items()},
        parameters=sum(p.size for p in parameters.values()),
        nonzeros=sum(int(np.count_nonzero(p)) for p in parameters.values()),
        digest=result.candidate.digest(),
        checkpoint="" if path is None else path.name,
    )
    done = replace(result.candidate, history=(*candidate.history, step))
    if path is not None:
        save_candidate(done, path)
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    return done


def _read_back(candidate: Candidate, path: Path) -> Candidate:
    """The checkpoint's result; the steps before it are this run's own."""
    found = load_candidate(path, candidate.spec)
    if not found.history or found.history[-1].digest != found.digest():
        raise CheckpointError(f"{path} is not what its step recorded; delete it and run again")
    return replace(found, history=(*candidate.history, found.history[-1]))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "source"


def _resume_key(candidate: Candidate, stage: Stage, task: Task) -> str:
    versions = {name: _version(name) for name in _VERSIONED}
    parts = [candidate.digest(), repr(stage), task.fingerprint, task.seed, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
