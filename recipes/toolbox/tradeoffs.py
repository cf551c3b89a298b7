"""Operations against agreement, gathered while a recipe makes one net after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from compress.candidate import Candidate
from compress.measure import count
from targets.tradeoff import Tradeoff, TradeoffPoint


@dataclass
class Tradeoffs:
    """`whole`: the net before any stage; the task measures agreement with it (see Fidelity)."""

    whole: Candidate
    points: list[TradeoffPoint] = field(default_factory=list[TradeoffPoint])
    samples: int = 0

    def add(self, series: str, candidate: Candidate) -> None:
        """A point of `series`: what the candidate's last step measured, its MACs and parameters.

        A dry run measures nothing, so there is no point then.
        """
        metrics = candidate.history[-1].metrics
        if "agreement" not in metrics:
            return
        counted = count(candidate.spec, candidate.network.module())
        self.samples = int(metrics["samples"])
        kl = metrics.get("kl", math.inf)
        known = kl if math.isfinite(kl) else None  # infinite where an answer is no number
        costs = (counted.macs, counted.parameters)
        self.points.append(TradeoffPoint(series, *costs, metrics["agreement"], known))

    def found(self) -> Tradeoff | None:
        """All points, for the report; None without any."""
        if not self.points:
            return None
        counted = count(self.whole.spec, self.whole.network.module())
        points = tuple(self.points)
        return Tradeoff(counted.macs, counted.parameters, self.samples, points)
