"""Job: what a recipe works with. Stages in, files out, every file scored, timed and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch

from compress.candidate import Candidate
from compress.errors import RecipeError
from compress.spec import ModelSpec
from compress.stage import Stage, run, stage_name
from compress.stages.int8_sensitivity import Int8Sensitivity
from compress.stages.sensitivity import SPARSITIES, Sensitivity
from compress.task import Task
from recipes.datasets import Split
from recipes.toolbox.delivery import (
    Delivery,
    deliver,
    need_formats,
    need_uncompressed,
    need_untouched,
)
from recipes.toolbox.distributed import processes
from recipes.toolbox.elsewhere import BENCH, Elsewhere, some_pictures, with_targets
from recipes.toolbox.folder import Identity, open_folder
from recipes.toolbox.lock import FolderLock
from recipes.toolbox.naming import new_stem
from recipes.toolbox.options import Options
from recipes.toolbox.progress import busy, say
from recipes.toolbox.scanning import FEW_PICTURES, kept_int8_scan, kept_scan
from recipes.toolbox.summary import FULL, SMOKE, Sizes, save, summarize
from targets.planning.plan import Plan
from targets.rows import About

_SMOKE_IMAGES = 512
# What the line about a finished stage shows of its metrics.
_SCORES = {"top1": "validation top-1", "agreement": "agreement with the uncompressed net"}


@dataclass
class Job(Options):
    """One run of a recipe: its folder, seed, and what it has delivered so far."""

    folder: Path
    seed: int = 0
    smoke: bool = False
    resume: bool = False
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    sizes: Sizes = field(init=False)
    lock: FolderLock | None = field(default=None, repr=False)
    untouched: Candidate | None = field(default=None, repr=False)
    """The net before any stage: what the ratios of the report are to."""
    finished: bool = False
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    train_only: bool = False
    """Stages are run and kept; files are for another machine, which resumes in a copy."""
    plan: Plan | None = None
    """What `edgepress plan` said of this recipe, to be held against what comes out."""
    _scan: Sensitivity | None = None
    _int8_scan: Int8Sensitivity | None = None

    def __post_init__(self) -> None:
        self.sizes = Sizes(self.folder / "steps")

    @classmethod
    def open(
        cls,
        recipe: str,
        folder: Path,
        *,
        seed: int = 0,
        smoke: bool = False,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Self:
        """A job in `folder`, which must be empty, or this run's (resume), or ours (overwrite).

        This is the one place that decides torch's number of threads: torch's own choice (so
        OMP_NUM_THREADS wins), or what the resumed run was begun with.
        """
        asked = Identity(recipe, seed, smoke, torch.get_num_threads(), processes())
        opened = open_folder(folder, asked, resume=resume, overwrite=overwrite)
        torch.set_num_threads(opened.identity.threads)
        return cls(recipe, folder, seed, smoke, resume, lock=opened.lock)

    @property
    def brief(self) -> bool:
        """Whether few pictures are enough: in a smoke run, and in a plan."""
        return self.smoke

    def epochs(self, full: int) -> int:
        """`full` epochs, or one in a smoke run."""
        return 1 if self.smoke else full

    def few(self, split: Split) -> Split:
        """The split, or its first 512 pictures in a smoke run and in a plan."""
        if not self.brief:
            return split
        return Split(split.images[:_SMOKE_IMAGES], split.labels[:_SMOKE_IMAGES])

    def need_formats(self, *formats: str) -> None:
        """Check that each format can be written here; call it first, before hours of work.

        Raises MissingExtraError with the pip command, or ExportError for an unknown format.
        """
        if not self.train_only:
            need_formats(formats, f"recipe {self.recipe}")

    def train(self, spec: ModelSpec, stages: Sequence[Stage], task: Task) -> Candidate:
        """Run `stages` from the seed's random initialisation."""
        return self.compress(Candidate.untrained(spec, self.seed), stages, task)

    def compress(self, candidate: Candidate, stages: Sequence[Stage], task: Task) -> Candidate:
        """Run `stages`, with checkpoints in the job's folder, printing a line for each."""
        self.untouched = self.untouched or candidate
        with busy() as now:
            return run(
                candidate,
                stages,
                task,
                folder=self.folder / "steps",
                resume=self.resume,
                begin=lambda stage: now(f"running {stage_name(stage)}"),
                report=self._stage_done,
            )

    def scan(
        self, candidate: Candidate, task: Task, sparsities: Sequence[float] = SPARSITIES
    ) -> Sensitivity:
        """Prune each layer alone, measured on the validation data; shown in the report."""
        with busy() as now:
            now("scanning the layers' sensitivities")
            self._scan = kept_scan(candidate, task, sparsities, self.folder / "steps", self.resume)
        return self._scan

    def scan_int8(
        self,
        candidate: Candidate,
        task: Task,
        quantize: Stage | tuple[Stage, ...],
        *,
        pictures: int = 32,
        mend: int = 6,
    ) -> Int8Sensitivity:
        """Quantize each layer alone, try what mends the worst; shown in the report."""
        with busy() as now:
            now("scanning what each layer loses in int8")
            how = (quantize, FEW_PICTURES, 1) if self.brief else (quantize, pictures, mend)
            folder = self.folder / "steps"
            self._int8_scan = kept_int8_scan(candidate, task, how, folder, self.resume)
        return self._int8_scan

    def deliver(
        self,
        label: str,
        candidate: Candidate,
        formats: Sequence[str],
        task: Task,
        smaller: str | None = None,
    ) -> None:
        """Write NET-`label` in each format, compare the file with `candidate`, and score it.

        The first delivery is the fp32 file that the others are compared with. `smaller`: what the
        report calls the net, where it is a smaller one of the same family, left uncompressed.
        Raises RecipeError, before anything is written, where one of them is not what it stands
        for, and for a label that makes no new file name.
        """
        if self.train_only:
            return
        if not self.deliveries and smaller is not None:
            raise RecipeError(
                f"the first delivery is {smaller}, a smaller net, but every file is compared with "
                f"the first; deliver the untouched fp32 net first"
            )
        if not self.deliveries:
            need_untouched(candidate)
        if smaller is not None:
            need_uncompressed(candidate, smaller)
        if self.elsewhere.targets and self.elsewhere.pictures is None:
            self.elsewhere = replace(self.elsewhere, pictures=some_pictures(task))
        taken = [d.artifact.path for d in self.deliveries]
        stem = new_stem(self.folder, candidate.spec.name, label, formats, taken)
        for form in formats:
            known = [d for d in self.deliveries if d.candidate is candidate]
            done = replace(deliver(candidate, form, stem, task, known), smaller=smaller)
            self.deliveries.append(done)
            score = "" if done.top1 is None else f"  top-1 {done.top1:.2%}"
            say(f"{done.artifact.path.name:32}{done.artifact.size_bytes:>11,} bytes{score}")

    def finish(self, about: About) -> None:
        """Time every file, side by side, and write the report; print its first sentence."""
        if self.train_only:
            self.finished = True
            say(
                f"\ntrained: for the files and the report, copy {self.folder} to the machine that "
                f"counts and resume there: --out COPY --resume, without --train-only, --train-on"
            )
            return
        if not self.deliveries:
            raise RecipeError(f"recipe {self.recipe} delivered no file; call job.deliver first")
        plan = SMOKE if self.smoke else FULL
        about = replace(about, smoke=self.smoke, planned=self.plan)
        about = replace(about, sensitivity=self._scan, int8_scan=self._int8_scan)
        report = summarize(about, self.deliveries, self.sizes, plan, self.untouched)
        files = [d.artifact for d in self.deliveries]
        report = with_targets(report, files, self.elsewhere, plan, self.folder / BENCH)
        sentence = save(report, self.folder)
        self.finished = True
        say(f"\n{sentence}\nreport: {self.folder / 'report.html'}")

    def about(self, model: str, dataset: str, method: str, max_drop: float) -> About:
        """What the report says of itself; `max_drop` is the allowed loss of top-1, in [0, 1]."""
        return About(self.recipe, model, dataset, method, self.seed, max_drop, self.smoke)

    def _stage_done(self, candidate: Candidate) -> None:
        step = candidate.history[-1]
        self.sizes.measure(candidate)
        score = "".join(
            f"  {words} {step.metrics[name]:.2%}"
            for name, words in _SCORES.items()
            if name in step.metrics
        )
        kept = step.nonzeros / max(1, step.parameters)
        why = f": {step.skipped[0].reason}" if step.skipped else ""
        idle = "" if step.touched else f"  nothing touched{why}"
        say(f"{step.stage:18}{step.seconds:8.1f} s  {kept:6.1%} non-zero{score}{idle}")
