"""A rule's verdicts beside what two files were measured to do."""

from __future__ import annotations

from typing import Literal

from targets.measurement import ratio_of_times
from targets.planning.plan import Figures, Judged
from targets.planning.verdicts import QUESTIONS, Question, Verdicts

Seen = Literal["yes", "no", "worse", "unclear"]
# Less is no difference that anybody would ship a file for.
_BYTES, _TIME, _MEMORY = 0.02, 0.05, 0.05
# Allocators give memory in steps.
_MEMORY_BYTES = 256 << 10


def judged(said: Verdicts, before: Figures | None, after: Figures | None) -> tuple[Judged, ...]:
    """An answer to each question; without figures of both files the rules' alone."""
    found: list[Judged] = []
    for question in QUESTIONS:
        verdict = getattr(said, question)
        ratio, seen = None, None
        if before is not None and after is not None:
            ratio, seen = compared(question, before, after)
        found.append(Judged(question, verdict.answer, verdict.reason, ratio, seen))
    return tuple(found)


def compared(
    question: Question, before: Figures, after: Figures
) -> tuple[float | None, Seen | None]:
    """(after / before, whether that is a gain); (None, None) where one was not measured."""
    if question == "latency":
        return _times(before, after)
    if question == "memory":
        return _memory(before.memory_bytes, after.memory_bytes)
    name = f"{question}_bytes"
    ratio = getattr(after, name) / max(1, getattr(before, name))
    return ratio, _seen(ratio, _BYTES)


def _seen(ratio: float, much: float) -> Seen:
    if ratio <= 1 - much:
        return "yes"
    return "worse" if ratio >= 1 + much else "no"


def _times(before: Figures, after: Figures) -> tuple[float | None, Seen | None]:
    if before.latency_ms is None or after.latency_ms is None:
        return None, None
    ratio = after.latency_ms / before.latency_ms
    if not before.times_ms or not after.times_ms:
        return ratio, _seen(ratio, _TIME)
    interval = ratio_of_times(after.times_ms, before.times_ms)
    if not interval.told:
        return interval.value, "unclear"
    best, worst = _seen(interval.low, _TIME), _seen(interval.high, _TIME)
    if best == worst:
        return interval.value, best
    return interval.value, "unclear" if best == "yes" else "no"


def _memory(before: int | None, after: int | None) -> tuple[float | None, Seen | None]:
    if not before or after is None:
        return None, None
    ratio = after / before
    if abs(after - before) < _MEMORY_BYTES:
        return ratio, "no"
    return ratio, _seen(ratio, _MEMORY)
