"""Stages inside a stage: one that repairs others runs them itself, to have the net before them."""

from __future__ import annotations

from collections.abc import Sequence

from compress.candidate import Candidate, Skipped
from compress.errors import RangeError, StageOrderError
from compress.stage import Stage, StageResult
from compress.task import Task


def check_inner(asker: str, field: str, stages: object) -> tuple[Stage, ...]:
    """`stages`, one or a non-empty tuple, as a tuple; RangeError unless all change values only."""
    found: tuple[object, ...] = stages if isinstance(stages, tuple) else (stages,)  # type: ignore[reportUnknownVariableType]
    fits = [
        callable(one) and not isinstance(one, type) and getattr(one, "changes", None) == "values"
        for one in found
    ]
    if not fits or not all(fits):
        raise RangeError(
            f"{asker}({field}={stages!r}): a stage that changes values is needed, or a tuple of "
            f"them, as in {field}=QuantizeInt8('mse')"
        )
    return found  # type: ignore[return-value]


def run_inner(asker: str, stages: Sequence[Stage], candidate: Candidate, task: Task) -> StageResult:
    """The stages in order, as one: a layer that any touched is touched.

    A StageOrderError of theirs names the asker, too.
    """
    results: list[StageResult] = []
    for stage in stages:
        try:
            results.append(stage(candidate, task))
        except StageOrderError as error:
            raise StageOrderError(f"{asker}: {error}") from error
        candidate = results[-1].candidate
    return joined(candidate, results)


def joined(candidate: Candidate, results: Sequence[StageResult]) -> StageResult:
    """One result of several: touched by any, or skipped for every reason that there was."""
    touched = tuple(dict.fromkeys(name for one in results for name in one.touched))
    reasons: dict[str, list[str]] = {}
    for skip in (skip for one in results for skip in one.skipped if skip.layer not in touched):
        reasons.setdefault(skip.layer, []).append(skip.reason)
    skipped = tuple(Skipped(n, "; ".join(dict.fromkeys(all_))) for n, all_ in reasons.items())
    return StageResult(candidate, touched, skipped)
