"""The QuantizeInt8 inside other stages: the same stages with other settings of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from compress.select import exactly
from compress.stage import Stage
from compress.stages.adaround import AdaRound
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_by_rate import ShareByRate

Stages = tuple[Stage, ...]
# Stages that put weights on integer grids before QuantizeInt8, which cannot keep those in float.
_ROUNDING = (AdaRound, ShareByRate)


def with_int8(stages: Stages, change: Callable[[QuantizeInt8], QuantizeInt8]) -> Stages:
    """`stages` with every QuantizeInt8 changed, which they are or hold in a field `quantize`."""
    return tuple(_changed(stage, change) for stage in stages)


def int8_in(stages: Stages) -> tuple[QuantizeInt8, ...]:
    """Every QuantizeInt8 among `stages` or inside one."""
    found: list[QuantizeInt8] = []

    def note(stage: QuantizeInt8) -> QuantizeInt8:
        found.append(stage)
        return stage

    with_int8(stages, note)
    return tuple(found)


def with_float(stages: Stages, layers: tuple[str, ...]) -> Stages:
    """`stages` that leave `layers` float: kept by QuantizeInt8, left out by what rounds before.

    Pruned or shared weights may stay so: they are floats.
    """
    names = tuple(map(exactly, layers))
    kept = with_int8(stages, lambda s: replace(s, keep_float=(*s.keep_float, *names)))
    return tuple(_without(stage, names) for stage in kept)


def _changed(stage: Stage, change: Callable[[QuantizeInt8], QuantizeInt8]) -> Stage:
    if isinstance(stage, QuantizeInt8):
        return change(stage)
    inner: object = getattr(stage, "quantize", None)
    if inner is None or not is_dataclass(stage):
        return stage
    whole = isinstance(inner, tuple)
    changed = with_int8(cast("Stages", inner if whole else (inner,)), change)
    return cast("Stage", replace(cast("Any", stage), quantize=changed if whole else changed[0]))


def _without(stage: Stage, layers: tuple[str, ...]) -> Stage:
    """The stage with `layers` left out, where it makes integers."""
    known = {f.name for f in fields(stage)} if is_dataclass(stage) else set[str]()
    given = cast("Any", stage)
    if "quantize" in known and given.quantize is not None:
        inner = given.quantize
        parts = tuple(
            _without(s, layers) for s in (inner if isinstance(inner, tuple) else (inner,))
        )
        given = replace(given, quantize=parts if isinstance(inner, tuple) else parts[0])
    if isinstance(stage, _ROUNDING):
        given = replace(given, exclude=(*given.exclude, *layers))
    return cast("Stage", given)
