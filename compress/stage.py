"""Stages and the run that chains them: checked, measured, recorded, resumable."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import numpy as np

from compress.atomic import make_folder, sweep
from compress.candidate import Candidate, Skipped, Step
from compress.checkpoint import load_candidate, save_candidate
from compress.errors import CheckpointError, StageOrderError, TaskError
from compress.task import Task, Tuning

if TYPE_CHECKING:
    from torch import nn

_VERSIONED = ("edgepress", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class StageResult:
    """What a stage gives: a new candidate, the layers it touched, those it skipped and why."""

    candidate: Candidate
    touched: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class Stage(Protocol):
    """A frozen dataclass: its fields are its configuration, its repr its report line.

    A stage that leaves encodings or grids behind also says `encodes: ClassVar[bool] = True`, and
    one of structure that works after such a stage `needs_dense: ClassVar[bool] = False`: by these
    `run` refuses an impossible order before anything runs. One that trains, or works long for
    better values only, has `untrained(self)`: see untrained.py.
    """

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


def check_order(candidate: Candidate, stages: Sequence[Stage]) -> None:
    """StageOrderError where a stage of structure would find values that are encoded already.

    That is known beforehand, and a stage before it may train for hours.
    """
    encoder = next((step.stage for step in candidate.history), "an earlier run")
    encoded = bool(candidate.encodings or candidate.activations)
    for stage in stages:
        name = stage_name(stage)
        if encoded and stage.changes == "structure" and getattr(stage, "needs_dense", True):
            raise StageOrderError(
                f"{name} changes the net's structure, but comes after {encoder}, which encodes "
                f"values; put {name} before pruning, sharing and quantization"
            )
        if not encoded and getattr(stage, "encodes", False):
            encoder, encoded = name, True


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
    whose last Step is the stage's. StageOrderError, before anything runs, where `check_order`
    finds one. Where task.evaluate fails (TaskError where it gives no metrics) the stage's result is
    kept without metrics, and resuming scores it instead of running the stage again.
    """
    check_order(candidate, stages)
    if folder is not None:
        make_folder(folder)
    for position, stage in enumerate(stages):
        path = None
        if begin is not None:
            begin(stage)
        if folder is not None:
            sweep(folder)
            key = _resume_key(candidate, stage, task)
            path = folder / f"{position:02d}-{stage_name(stage)}-{key[:16]}.safetensors"
        if path is not None and resume and path.is_file():
            candidate = _read_back(candidate, path, task)
        else:
            candidate = _apply(candidate, stage, task, path)
        if report is not None:
            report(candidate)
    return candidate


def apply(candidate: Candidate, stage: Stage, task: Task, checkpoint: str = "") -> Candidate:
    """What `stage` makes, its laws checked, with a Step that has no metrics yet."""
    begun = time.perf_counter()
    heard = _Heard(task)
    result = stage(candidate, heard.task)
    seconds = time.perf_counter() - begun
    result.candidate.check()
    parameters = result.candidate.network.parameters()
    step = Step(
        stage=stage_name(stage),
        settings=repr(stage),
        seconds=round(seconds, 3),
        touched=result.touched,
        skipped=result.skipped,
        parameters=sum(p.size for p in parameters.values()),
        nonzeros=sum(int(np.count_nonzero(p)) for p in parameters.values()),
        digest=result.candidate.digest(),
        checkpoint=checkpoint,
        trained_on=task.trains_on if heard.trained else "",
    )
    return result.candidate.with_history((*candidate.history, step))


class _Heard:
    """A task, and whether its training loop was called."""

    def __init__(self, task: Task) -> None:
        self.trained = False
        self._finetune = task.finetune
        self.task = task if task.finetune is None else replace(task, finetune=self._train)

    def _train(self, model: nn.Module, tuning: Tuning) -> None:
        assert self._finetune is not None
        self.trained = True
        self._finetune(model, tuning)


def _apply(candidate: Candidate, stage: Stage, task: Task, path: Path | None) -> Candidate:
    scratch = None if path is None else path.with_suffix(".progress")
    task = replace(task, scratch=scratch)
    done = apply(candidate, stage, task, "" if path is None else path.name)
    if path is not None:
        # Before it is scored: the user's function may fail, and the training took hours.
        save_candidate(done, path)
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    return _scored(done, task, path)


def _scored(done: Candidate, task: Task, path: Path | None) -> Candidate:
    """`done` with metrics in its last Step, kept at `path`."""
    step = done.history[-1]
    scored = replace(step, metrics=_metrics(task.evaluate(done.predict), step.stage))
    done = done.with_history((*done.history[:-1], scored))
    if path is not None:
        save_candidate(done, path)
    return done


def _metrics(found: object, stage: str) -> dict[str, float]:
    """What task.evaluate gave, as plain floats; TaskError where it gave no metrics."""
    asked = f"after {stage} task.evaluate gave"
    if not isinstance(found, Mapping):
        raise TaskError(
            f"{asked} {_short(found)}; give a mapping of names to numbers, as {{'top1': 0.97}}"
        )
    metrics: dict[str, float] = {}
    for name, value in cast("Mapping[object, Any]", found).items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not isinstance(name, str) or isinstance(value, str) or not math.isfinite(number):
            raise TaskError(f"{asked} {name!r}: {_short(value)}; give a finite number by a name")
        metrics[name] = number
    if not 0 <= metrics.get("top1", 0.0) <= 1:
        raise TaskError(
            f"{asked} 'top1': {metrics['top1']:g}; top1 is a fraction in [0, 1], not a percentage"
        )
    return metrics


def _short(value: object) -> str:
    return " ".join(repr(value).split())[:80]


def _read_back(candidate: Candidate, path: Path, task: Task) -> Candidate:
    """The checkpoint's result; the steps before it are this run's own."""
    found = load_candidate(path, candidate.spec)
    if not found.history or found.history[-1].digest != found.digest():
        raise CheckpointError(f"{path} is not what its step recorded; delete it and run again")
    done = found.with_history((*candidate.history, found.history[-1]))
    return done if done.history[-1].metrics else _scored(done, task, path)


def _version(package: str) -> str:
    """Without a build's label: what a GPU's torch trained is read back beside a processor's."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "source"


def _resume_key(candidate: Candidate, stage: Stage, task: Task) -> str:
    versions = {name: _version(name) for name in _VERSIONED}
    parts = [candidate.digest(), repr(stage), task.fingerprint, task.seed, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
