"""Which files are worth timing, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence

from recipes.shrinking.trial import Trial
from recipes.shrinking.wish import Wish
from targets.loss import SLACK
from targets.methods import UNTOUCHED
from targets.units import bytes_text


def loss(trial: Trial, original_top1: float | None) -> float:
    """The loss of top-1: measured where there are labels, else estimated."""
    if trial.score.top1 is not None and original_top1 is not None:
        return original_top1 - trial.score.top1
    assert trial.score.estimated_drop is not None
    return trial.score.estimated_drop


def why_not_timed(trial: Trial, trials: Sequence[Trial], wish: Wish, top1: float | None) -> str:
    """'' for a file that is timed: the untouched ones, and what may be recommended or nearly."""
    if not trial.runnable:
        return "no stock runtime loads this format; it is decoded first"
    if trial.rung.method == UNTOUCHED or trial is _nearest(trials, wish, top1):
        return ""
    if wish.budget_bytes is None:
        lost = loss(trial, top1)
        if lost <= wish.max_drop + SLACK:
            return ""
        kind = "an estimated " if trial.score.top1 is None else ""
        return (
            f"not timed: it loses {kind}{100 * lost:.2f} points of top-1, "
            f"{100 * wish.max_drop:.2f} are allowed"
        )
    if trial.artifact.size_bytes <= wish.budget_bytes:
        return ""
    return (
        f"not timed: it has {bytes_text(trial.artifact.size_bytes)}, "
        f"{bytes_text(wish.budget_bytes)} are allowed"
    )


def _nearest(trials: Sequence[Trial], wish: Wish, top1: float | None) -> Trial | None:
    """Of the compressed files, the one that would be told of if none passed."""
    rows = [t for t in trials if t.runnable and t.rung.method != UNTOUCHED]
    if wish.budget_bytes is not None:
        return min(rows, key=lambda t: t.artifact.size_bytes, default=None)
    return min(rows, key=lambda t: loss(t, top1), default=None)
