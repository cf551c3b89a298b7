"""A recipe run by several processes: the first one does all, the others take part in training.

Each process runs the recipe's main. The first one's job is an ordinary one that says what it does:
when a training begins, and what net each stage has made. The others' job writes nothing that
stays: it joins each training, takes over each net, and delivers and reports nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.candidate import Candidate
from compress.checkpoint import load_candidate, save_candidate
from compress.errors import RecipeError
from compress.stage import Stage, stage_name
from compress.task import Task, Tuning
from recipes.toolbox.distributed import Team, is_first, processes
from recipes.toolbox.job import Job
from recipes.toolbox.training import Trainer
from targets.rows import About

_TRAINS = "trains"


@dataclass
class LeadingJob(Job):
    """The first process's job: tells the others what it does."""

    _team: Team | None = None
    _told: bool = False

    def compress(self, candidate: Candidate, stages: Sequence[Stage], task: Task) -> Candidate:
        """As Job.compress, the others taking part."""
        team = self._team = _team_for(self, task, self._team)
        self._told, train = False, task.finetune
        team.from_first(torch.get_num_threads())

        def announced(model: nn.Module, tuning: Tuning) -> None:
            if not self._told:  # once a stage: the others run the whole stage
                team.from_first(_TRAINS)
                self._told = True
            assert train is not None
            train(model, tuning)

        if task.finetune is not None:
            task = replace(task, finetune=announced)
        return super().compress(candidate, stages, task)

    def _stage_done(self, candidate: Candidate) -> None:
        super()._stage_done(candidate)
        assert self._team is not None
        self._team.from_first(_packed(candidate))
        self._told = False


@dataclass
class FollowingJob(Job):
    """Another process's job; its folder is its own and goes with it."""

    _holder: tempfile.TemporaryDirectory[str] | None = None
    _team: Team | None = None

    @staticmethod
    def begin(recipe: str, seed: int, smoke: bool) -> FollowingJob:
        """A job in a folder of its own."""
        holder = tempfile.TemporaryDirectory(prefix="edgepress-")
        return FollowingJob(recipe, Path(holder.name), seed, smoke, _holder=holder)

    def compress(self, candidate: Candidate, stages: Sequence[Stage], task: Task) -> Candidate:
        """The candidate that the first process makes of it; trains where that one trains."""
        team = self._team = _team_for(self, task, self._team)
        torch.set_num_threads(team.from_first(0))
        for stage in stages:
            message: Any = team.from_first(None)
            if message == _TRAINS:
                stage(candidate, replace(task, scratch=None))
                message = team.from_first(None)
            assert isinstance(message, bytes), f"{stage_name(stage)} trained apart"
            candidate = _unpacked(message, candidate)
        return candidate

    def deliver(
        self,
        label: str,
        candidate: Candidate,
        formats: Sequence[str],
        task: Task,
        smaller: str | None = None,
    ) -> None:
        """Nothing: the first process does."""

    def finish(self, about: About) -> None:
        """Nothing: the first process does."""
        del about
        self.finished = True


def open_job(recipe: str, folder: Path, *, seed: int, smoke: bool, **how: bool) -> Job:
    """The job of this process: see Job.open for the arguments, which the first one takes."""
    if processes() == 1:
        return Job.open(recipe, folder, seed=seed, smoke=smoke, **how)
    if is_first():
        return LeadingJob.open(recipe, folder, seed=seed, smoke=smoke, **how)
    return FollowingJob.begin(recipe, seed, smoke)


@contextmanager
def one_voice() -> Generator[None]:
    """Only the first process prints; errors are everyone's."""
    if is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def _team_for(job: Job, task: Task, team: Team | None) -> Team:
    """The processes on the trainer's device; RecipeError for a loop that knows of no others."""
    if isinstance(task.finetune, Trainer):
        return Team.join(task.finetune.device)
    if task.finetune is not None:
        raise RecipeError(
            f"recipe {job.recipe} was launched as several processes, but its task trains with "
            f"{getattr(task.finetune, '__name__', type(task.finetune).__name__)}; use "
            f"recipes.toolbox.training.Trainer, or launch one process"
        )
    return team or Team.join("cpu")


def _packed(candidate: Candidate) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        path = Path(folder) / "candidate.safetensors"
        save_candidate(candidate, path)
        return path.read_bytes()


def _unpacked(data: bytes, before: Candidate) -> Candidate:
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        path = Path(folder) / "candidate.safetensors"
        path.write_bytes(data)
        return load_candidate(path, before.spec)
