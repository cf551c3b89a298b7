"""The nets that a recipe goes through, in order, each with the one that it came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from compress.candidate import Candidate
from compress.stage import Stage, stage_name
from targets.planning.changes import changes
from targets.planning.form import NetForm, form_of

START, RANDOM = "start", "random start"


@dataclass(eq=False)
class State:
    """One net. stage: what made it, None for one that the recipe brought; seconds: of planning it.

    passing: another round of the same stage follows, so nobody ships this one. same: the stage
    changes no form, training alone does nothing here. sound: the net with the same structure, but
    none of its values given up; retrained: a training was left out that would have mended them.
    formats: those that
    the recipe delivers it in, or something made from it.
    """

    number: int
    candidate: Candidate
    stage: Stage | None = None
    after: State | None = None
    planned_as: tuple[Stage, ...] = ()
    seconds: float = 0.0
    name: str = START
    passing: bool = False
    sound: Candidate | None = None
    retrained: bool = False
    formats: dict[str, None] = field(default_factory=dict[str, None])

    @cached_property
    def form(self) -> NetForm:
        return form_of(self.candidate)

    @cached_property
    def same(self) -> bool:
        return self.after is not None and self.candidate.digest() == self.after.candidate.digest()

    @cached_property
    def family(self) -> State:
        """The first of the states behind this one whose files are the same in all that counts.

        Exporters fold batch norms themselves, so folding alone makes no other file.
        """
        if self.after is None or not changes(self.after.form, self.form).none:
            return self
        return self.after.family

    @property
    def label(self) -> str:
        """'3 ShareWeights'."""
        return f"{self.number} {self.name}"

    def line(self) -> Iterable[State]:
        """This one and those before it, the nearest first."""
        found: State | None = self
        while found is not None:
            yield found
            found = found.after


@dataclass(eq=False)
class States:
    """All of them; a candidate is known again by being the same object."""

    found: list[State] = field(default_factory=list[State])
    random: bool = False

    def of(self, candidate: Candidate) -> State:
        """Its state; a net that no stage of ours made is a new start."""
        for state in reversed(self.found):
            if state.candidate is candidate:
                return state
        return self.add(State(len(self.found), candidate))

    def add(self, state: State) -> State:
        self.found.append(state)
        return state

    def made(self, after: State, candidate: Candidate, stage: Stage, **about: object) -> State:
        """The state that `stage` makes of `after`."""
        return self.add(
            State(len(self.found), candidate, stage, after, name=stage_name(stage), **about)  # type: ignore[arg-type]
        )


def passing(stages: list[State]) -> None:
    """Mark those of one chain that another round of the same stage follows.

    Between two rounds there may be stages that change nothing without training.
    """
    for place, state in enumerate(stages):
        for later in stages[place + 1 :]:
            if type(later.stage) is type(state.stage):
                state.passing = not state.same
                break
            if not later.same:
                break
