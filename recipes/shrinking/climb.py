"""The ladder climbed down: each rung tried while it can be of use, what fails left out and said."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field

from compress.candidate import Candidate
from compress.errors import EdgepressError
from compress.task import Task
from recipes.shrinking.choice import loss
from recipes.shrinking.ladder import FP32, LADDER, Rung, is_hopeless
from recipes.shrinking.trial import Bench, Trial, make
from recipes.shrinking.wish import Wish
from recipes.toolbox.delivery import EXTRAS
from recipes.toolbox.progress import say
from targets.units import bytes_text, share_text

# For a budget: what loses more than twice it is no use to anybody.
_MOST_DROP = 0.25


@dataclass
class Climb:
    """`trials`, best first within a rung; `left_out`: what could not be tried, and why."""

    wish: Wish
    bench: Bench
    task: Task
    made: dict[str, Candidate]
    trials: list[Trial] = field(default_factory=list[Trial])
    left_out: list[str] = field(default_factory=list[str])
    _ended: set[str] = field(default_factory=set[str])

    def run(self) -> None:
        """Try every rung, but none with fewer bits than can be of use.

        `made` has the folded net under the label of the first rung. Raises an EdgepressError
        where not even that can be written as .onnx: all is compared with it.
        """
        missing = self._missing_formats()
        for rung in LADDER:
            possible = rung is FP32 or rung.start in self.made
            if not possible or (rung.bits is not None and rung.start in self._ended):
                continue
            done = self._tried(rung, [form for form in rung.formats if form not in missing])
            self.trials += done
            if done and self._is_last(rung, done):
                self._ended |= {rung.start} if rung.bits is not None else {rung.label}

    def _tried(self, rung: Rung, formats: list[str]) -> list[Trial]:
        """The rung's files; a net or a file that cannot be made is said and passed over."""
        done: list[Trial] = []
        try:
            if rung.label not in self.made:
                self.made[rung.label] = make(rung, self.made[rung.start], self.task)
        except EdgepressError as error:
            self._leave_out(rung.label, error)
            return done
        for form in formats:
            beside = next((trial for trial in done if trial.artifact.format == "onnx-packed"), None)
            try:
                trial = self.bench.trial(rung, self.made[rung.label], form, beside)
            except EdgepressError as error:
                if (rung, form) == (FP32, "onnx"):
                    raise
                self._leave_out(f"{rung.label} as {form}", error)
                continue
            say(_line(trial))
            done.append(trial)
        return done

    def _is_last(self, rung: Rung, done: list[Trial]) -> bool:
        """True where fewer bits than this rung's would be worse and not needed."""
        lost = min(loss(trial, self.bench.original.top1) for trial in done)
        if self.wish.budget_bytes is None:
            return is_hopeless(lost, self.wish.max_drop)
        files = [trial.artifact.size_bytes for trial in done if trial.runnable]
        fits = rung.bits is not None and max(files, default=0) <= self.wish.budget_bytes
        return fits or is_hopeless(lost, _MOST_DROP)

    def _missing_formats(self) -> set[str]:
        """Formats whose package is not installed, each said with the pip command."""
        missing: set[str] = set()
        for form, (module, extra) in EXTRAS.items():
            if importlib.util.find_spec(module) is None:
                line = f"no .{form} files: run pip install 'edgepress[{extra}]' to have them"
                self.left_out.append(line)
                say(line)
                missing.add(form)
        return missing

    def _leave_out(self, what: str, error: EdgepressError) -> None:
        self.left_out.append(f"{what} could not be made: {error}")
        say(f"left out: {self.left_out[-1]}")


def _line(trial: Trial) -> str:
    """What the terminal shows of a file that was just scored."""
    score = trial.score
    top1 = "" if score.top1 is None else f"  top-1 {share_text(score.top1)}"
    agreement = "" if score.agreement is None else share_text(score.agreement)
    size = f"{bytes_text(trial.artifact.size_bytes):>9}"
    return f"{trial.artifact.path.name:36}{size}  agreement {agreement}{top1}"
