"""What would mend the layers that int8 hurts most: each way is tried, none is guessed by a rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compress.candidate import Candidate
from compress.errors import EdgepressError
from compress.select import exactly
from compress.stage import Stage
from compress.stages.adaround import AdaRound
from compress.stages.correct_bias import CorrectBias
from compress.stages.equalize_ranges import EqualizeRanges
from compress.stages.inner import run_inner
from compress.stages.inner_int8 import int8_in, with_int8
from compress.stages.int8_losses import LayerLoss, Losses
from compress.task import Task

_ASKER = "scan_int8"
KEEP = "keep_float"


@dataclass(frozen=True)
class Mending:
    """One way to quantize a layer otherwise; losses in nats a picture, of this layer alone.

    before_kl: as it is; after_kl: in this way.
    """

    layer: str
    way: str
    before_kl: float
    after_kl: float

    @property
    def gain(self) -> float:
        """Nats a picture that it saves; 0 or less where it does not mend."""
        return self.before_kl - self.after_kl


@dataclass(frozen=True)
class WayLoss:
    """One way taken for the whole net: loss and SQNR of the int8 net's answers.

    Where it could not be tried int8_kl is None and `reason` says why.
    """

    way: str
    int8_kl: float | None
    int8_db: float | None
    reason: str = ""


@dataclass(frozen=True)
class Way:
    """`prepare` changes the float net, `quantize` makes it int8; text names both."""

    text: str
    prepare: tuple[Stage, ...]
    quantize: tuple[Stage, ...]


def ways(stages: tuple[Stage, ...], worst: tuple[str, ...]) -> Iterator[Way]:
    """All that can be tried in the place of `stages`; `worst`: the layers that it is for."""
    for settings in (
        {"observer": "minmax"},
        {"observer": "percentile", "percentile": 99.99},
        {"observer": "mse"},
        {"per_channel": True},
        {"weight_bits": 8},
    ):
        other = with_int8(stages, lambda stage, s=settings: replace(stage, **s))
        if other != stages:
            yield Way(f"QuantizeInt8({_said(settings)})", (), other)
    for by in ("weights", "activations", "loss"):
        yield Way(f"EqualizeRanges({by!r})", (EqualizeRanges(by),), stages)
    kinds = {type(stage) for stage in stages}
    if CorrectBias not in kinds:
        yield Way("CorrectBias", (), (CorrectBias(stages),))
    inner = int8_in(stages)
    if AdaRound not in kinds and inner and worst:
        rounding = AdaRound(inner[0].weight_bits, include=tuple(map(exactly, worst)))
        yield Way("AdaRound of these layers", (), (rounding, *stages))


def try_ways(
    candidate: Candidate,
    losses: Losses,
    stages: tuple[Stage, ...],
    task: Task,
    rows: Sequence[LayerLoss],
) -> tuple[tuple[Mending, ...], tuple[WayLoss, ...]]:
    """(each way for each of `rows`, best first; each way for the whole net, best first).

    keep_float is what the layer loses by its output's grid alone: its own weights are float then,
    and a grid stays where other layers read. A way that this net or task does not allow says why.
    """
    mendings = [
        Mending(row.layer, KEEP, row.alone_kl, row.output_kl) for row in rows if row.weights
    ]
    whole: list[WayLoss] = []
    for way in ways(stages, tuple(row.layer for row in rows if row.weights)):
        try:
            base = run_inner(_ASKER, way.prepare, candidate, task).candidate
            int8 = run_inner(_ASKER, way.quantize, base, task).candidate
        except EdgepressError as error:
            whole.append(WayLoss(way.text, None, None, str(error)))
            continue
        found, together = losses.other(base, int8, [row.layer for row in rows])
        mendings += [
            Mending(row.layer, way.text, row.alone_kl, found[row.layer])
            for row in rows
            if row.layer in found
        ]
        whole.append(WayLoss(way.text, together.divergence, together.sqnr_db))
    order = {row.layer: place for place, row in enumerate(rows)}
    mendings.sort(key=lambda m: (order[m.layer], m.after_kl))
    whole.sort(key=lambda w: math.inf if w.int8_kl is None else w.int8_kl)
    return tuple(mendings), tuple(whole)


def _said(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())
