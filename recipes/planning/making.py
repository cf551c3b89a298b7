"""From the states and files of a dry run to a Plan: each file against the one before, and fp32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from compress.candidate import Skipped
from compress.errors import ExportError
from recipes.planning.files import Files, engine_of
from recipes.planning.states import State
from targets.artifact import Artifact
from targets.assemble import environment, git_commit
from targets.planning.cpu import Cpu, local_cpu
from targets.planning.judging import judged
from targets.planning.plan import Judged, Plan, PlannedFile, PlannedStage
from targets.planning.speed import Where
from targets.planning.verdicts import verdicts

if TYPE_CHECKING:
    from recipes.planning.job import PlanningJob

RANDOM = (
    "The recipe trains from random weights, and so did this plan begin: sizes and times are those "
    "of any weights, accuracy is unknown. What is coded by how values are spread (.dc, packed "
    "files, downloads) may differ by some per cent."
)
BY_RATE = (
    "ShareByRate chooses levels by what errors cost the trained net, which is not there yet: sizes "
    "behind it are rough, those of five recipes were 15 to 30 % too small."
)
_THREADS = 1


@dataclass(frozen=True, eq=False)
class Delivered:
    """A file that the recipe will deliver at `path`."""

    path: Path
    form: str
    state: State
    artifact: Artifact


@dataclass(frozen=True, eq=False)
class _Maker:
    files: Files
    cpu: Cpu
    states: Sequence[State]

    def stage(self, state: State) -> PlannedStage:
        """Its net and, unless another round follows, its files against those before it."""
        left = Counter(skip.reason for skip in _step_skipped(state))
        form = state.form
        return PlannedStage(
            number=state.number,
            stage=state.name,
            after=None if state.after is None else state.after.number,
            settings="" if state.stage is None else repr(state.stage),
            planned_as=tuple(map(repr, state.planned_as)),
            seconds=round(state.seconds, 3),
            parameters=form.parameters,
            nonzeros=form.nonzeros,
            macs=form.macs,
            skipped=dict(left),
            same=state.same,
            files=() if state.same else tuple(self._of_stage(state, f) for f in state.formats),
        )

    def _of_stage(self, state: State, form: str) -> PlannedFile:
        if state.passing:
            missing = "another round of the stage follows"
            return PlannedFile(form, "", _THREADS, missing=missing)
        made = self._made(state, form)
        if isinstance(made, ExportError):
            return PlannedFile(form, "", _THREADS, missing=str(made))
        before = next((s for s in state.line() if s is not state and self._has(s, form)), None)
        found = None if before is None else self._made(before, form)
        reference = found if isinstance(found, Artifact) else None
        label = "" if before is None else before.label
        return self._file(form, (state, made), (before, reference), label)

    def _has(self, state: State, form: str) -> bool:
        written = not state.passing and not state.same and form in state.formats
        return written and isinstance(self._made(state, form), Artifact)

    def _made(self, state: State, form: str) -> Artifact | ExportError:
        """Its file, or one of its family that is written already."""
        if engine_of(form) is not None:
            for other in self.states:
                written = self.files.written(other.candidate, form)
                if other.family is state.family and isinstance(written, Artifact):
                    return written
        return self.files.write(state.candidate, form)

    def write(self) -> None:
        """Every file that any stage needs."""
        for state in self.states:
            for form in state.formats:
                if not state.passing and not state.same:
                    self._made(state, form)

    def delivery(self, given: Delivered, every: Sequence[Delivered]) -> PlannedFile:
        """Against the untouched file of its format, or of its engine."""
        first = [d for d in every if d.state is every[0].state]
        plain = Where(given.form, None).suffix
        alike = [d for d in first if d.form == given.form]
        engine = [d for d in first if d.form == plain]
        against = (alike or engine or first)[0]
        if against is given:
            return self._file(given.form, (given.state, given.artifact), (None, None), "", given)
        return self._file(
            given.form,
            (given.state, given.artifact),
            (against.state, against.artifact),
            against.path.name,
            given,
        )

    def _file(
        self,
        form: str,
        own: tuple[State, Artifact],
        reference: tuple[State | None, Artifact | None],
        against: str,
        given: Delivered | None = None,
    ) -> PlannedFile:
        (state, made), (before, theirs) = own, reference
        found: tuple[Judged, ...] = ()
        if before is not None and theirs is not None:
            where = Where(form, engine_of(form), _THREADS)
            said = verdicts(before.form, state.form, where, self.cpu)
            found = judged(said, self.files.figures(theirs), self.files.figures(made))
        return PlannedFile(
            format=form,
            runtime=self.files.runtime(made),
            threads=_THREADS,
            path="" if given is None else given.path.name,
            figures=self.files.figures(made),
            against=against,
            verdicts=found,
            params=state.form.parameters,
            nonzeros=state.form.nonzeros,
            macs=state.form.macs,
        )


def make_plan(job: PlanningJob, files: Files) -> Plan:
    """Write what is not written yet, measure all, judge all."""
    states = [state for state in job.states.found if state.formats]
    maker = _Maker(files, local_cpu(), states)
    maker.write()
    measured = files.measure()
    return Plan(
        recipe=job.recipe,
        net=job.given_net,
        seed=job.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=git_commit(),
        environment=environment(measured),
        cpu=maker.cpu.words(),
        random=job.states.random,
        stages=tuple(maker.stage(state) for state in states),
        files=tuple(maker.delivery(given, job.delivered) for given in job.delivered),
        notes=_notes(job),
    )


def _step_skipped(state: State) -> tuple[Skipped, ...]:
    history = state.candidate.history
    return history[-1].skipped if state.stage is not None and history else ()


def _notes(job: PlanningJob) -> tuple[str, ...]:
    stages = {type(s.stage).__name__ for s in job.states.found if s.stage is not None}
    notes = [RANDOM] if job.states.random else []
    dearer = job.states.random or any(s.planned_as for s in job.states.found)
    return (*notes, BY_RATE) if "ShareByRate" in stages and dearer else tuple(notes)
