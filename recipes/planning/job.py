"""PlanningJob: a recipe's own main(job) run dry: real files, no training, no scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compress.candidate import Candidate, Step
from compress.errors import ExportError, RecipeError
from compress.spec import ModelSpec
from compress.stage import Stage, check_order, stage_name
from compress.stages.int8_sensitivity import Int8Sensitivity
from compress.task import Task
from compress.untrained import judges, untrained, untrained_all
from recipes.planning.dry import Later, awakened, dry_task
from recipes.planning.files import Files
from recipes.planning.making import Delivered, make_plan
from recipes.planning.sound import applied, can_stand_in, with_zeros
from recipes.planning.states import RANDOM, State, States, passing
from recipes.toolbox.delivery import Delivery, exporter_of, need_uncompressed, need_untouched
from recipes.toolbox.job import Job
from recipes.toolbox.naming import new_stem
from recipes.toolbox.progress import busy, say
from targets.rows import About


@dataclass
class PlanningJob(Job):
    """`folder` is a temporary one: a plan leaves nothing there. `plan` is there once finished."""

    states: States = field(default_factory=States)
    delivered: list[Delivered] = field(default_factory=list[Delivered])
    _tasks: dict[int, tuple[Task, Task]] = field(default_factory=dict[int, tuple[Task, Task]])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.files = Files(self.folder)

    @property
    def brief(self) -> bool:
        """Few pictures are enough for a plan."""
        return True

    @property
    def given_net(self) -> str | None:
        """As `net`, without counting as a recipe's look at it."""
        return self._net

    def train(self, spec: ModelSpec, stages: Sequence[Stage], task: Task) -> Candidate:
        """The form after `stages`, of random weights."""
        untouched = awakened(Candidate.untrained(spec, self.seed), self.seed)
        start = self.states.of(untouched)
        start.name, self.states.random = RANDOM, True
        return self.compress(untouched, stages, task)

    def compress(self, candidate: Candidate, stages: Sequence[Stage], task: Task) -> Candidate:
        """The form after `stages`, by what each of them says that it is without training."""
        self.untouched = self.untouched or candidate
        check_order(candidate, stages)
        state, chain = self.states.of(candidate), list[State]()
        with busy() as now:
            for stage in stages:
                now(f"planning {stage_name(stage)}")
                state = self._made(state, stage, self._dry(task))
                chain.append(state)
        passing(chain)
        return state.candidate

    def scan_int8(
        self,
        candidate: Candidate,
        task: Task,
        quantize: Stage | tuple[Stage, ...],
        *,
        pictures: int = 32,
        mend: int = 6,
    ) -> Int8Sensitivity:
        """As Job.scan_int8 on few pictures, nothing trained."""
        forms = untrained_all(quantize)
        return super().scan_int8(candidate, self._dry(task), forms, pictures=pictures, mend=mend)

    def deliver(
        self,
        label: str,
        candidate: Candidate,
        formats: Sequence[str],
        task: Task,
        smaller: str | None = None,
    ) -> None:
        """Write each file, and refuse what Job.deliver would refuse after the training."""
        if not self.deliveries:
            need_untouched(candidate)
        if smaller is not None:
            need_uncompressed(candidate, smaller)
        task.need_calibration("comparing a file with its candidate")
        taken = [d.path for d in self.delivered]
        stem = new_stem(self.folder, candidate.spec.name, label, formats, taken)
        state = self.states.of(candidate)
        for form in formats:
            artifact = self.files.write(candidate, form)
            if isinstance(artifact, ExportError):
                raise artifact
            for before in state.line():
                before.formats[form] = None
            path = stem.with_name(stem.name + exporter_of(form).suffix)
            self.delivered.append(Delivered(path, form, state, artifact))
            self.deliveries.append(Delivery(candidate, artifact, None, artifact.sha256))
            say(f"{path.name:40}{artifact.size_bytes:>11,} bytes")

    def finish(self, about: About) -> None:
        """Write and time the files of every stage; the verdicts on each."""
        if not self.delivered:
            raise RecipeError(f"recipe {self.recipe} delivered no file; call job.deliver first")
        del about
        self.plan = make_plan(self, self.files)
        self.finished = True

    def _made(self, before: State, stage: Stage, task: Task) -> State:
        begun, forms = time.perf_counter(), untrained(stage)
        sound = before.sound or before.candidate
        if judges(stage) and before.retrained and can_stand_in(sound, before.candidate):
            done = with_zeros(applied(sound, forms, task), before.candidate)
        else:
            done = applied(before.candidate, forms, task)
        untouched = sound is before.candidate
        if stage.changes == "structure":
            sound = done if untouched else applied(sound, forms, task)
        done = done.with_history((*before.candidate.history, self._step(done, stage, task)))
        return self.states.made(
            *(before, done, stage),
            planned_as=() if forms == (stage,) else forms,
            seconds=time.perf_counter() - begun,
            sound=done if untouched and stage.changes == "structure" else sound,
            retrained=before.retrained or forms != (stage,),
        )

    def _step(self, done: Candidate, stage: Stage, task: Task) -> Step:
        """What the run would record of `stage`, by all that was done in its place."""
        new = done.history[-len(untrained(stage)) :] if untrained(stage) else ()
        own = done.network.parameters().values()
        return Step(
            stage=stage_name(stage),
            settings=repr(stage),
            seconds=round(sum(step.seconds for step in new), 3),
            touched=tuple(dict.fromkeys(name for step in new for name in step.touched)),
            skipped=tuple(dict.fromkeys(skip for step in new for skip in step.skipped)),
            metrics=Later(done, task),
            parameters=sum(p.size for p in own),
            nonzeros=sum(int(np.count_nonzero(p)) for p in own),
            digest=done.digest(),
        )

    def _dry(self, task: Task) -> Task:
        """The same dry task for the same task: stages know again what they have seen."""
        kept = self._tasks.get(id(task))
        if kept is None:
            kept = self._tasks[id(task)] = task, dry_task(task)
        return kept[1]
