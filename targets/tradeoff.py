"""What is left of a net's answers as its operations go: points by series, for a report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress.errors import ReportError
from targets.units import count_text, share_text, times_text, wilson

TITLE = "Operations against agreement"
COLUMNS = ("Series", "MACs", "Fewer", "Parameters", "Agreement", "95 % interval", "Divergence")


@dataclass(frozen=True)
class TradeoffPoint:
    """One smaller net. macs, parameters: its own.

    agreement: share of the pictures, in [0, 1], on which its first class is the whole net's; kl:
    divergence of its answers, nats a picture.
    """

    series: str
    macs: int
    parameters: int
    agreement: float
    kl: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.agreement <= 1 or self.macs < 1 or self.parameters < 0:
            raise ReportError(
                f"point of {self.series!r} has agreement {self.agreement}, {self.macs} MACs, "
                f"{self.parameters} parameters; 0..1, 1 and more, 0 and more are allowed"
            )
        if self.kl is not None and not 0 <= self.kl < math.inf:
            raise ReportError(f"point of {self.series!r} has kl {self.kl}; 0 and more is allowed")


@dataclass(frozen=True)
class Tradeoff:
    """macs, parameters: of the whole net; samples: pictures that were compared, 1 and more."""

    macs: int
    parameters: int
    samples: int
    points: tuple[TradeoffPoint, ...]

    def __post_init__(self) -> None:
        if self.macs < 1 or self.parameters < 1 or self.samples < 1:
            raise ReportError(
                f"tradeoff has {self.macs} MACs, {self.parameters} parameters, {self.samples} "
                f"samples; 1 and more are allowed"
            )

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the series, in the order in which they came."""
        return tuple(dict.fromkeys(point.series for point in self.points))

    def of(self, series: str) -> list[TradeoffPoint]:
        """The points of a series, most operations first."""
        found = [point for point in self.points if point.series == series]
        return sorted(found, key=lambda p: (-p.macs, p.agreement))


def tradeoff_note(found: Tradeoff) -> str:
    """What the figures are."""
    return (
        f"Nets with fewer operations, nothing trained, beside the whole one of "
        f"{count_text(found.macs)} MACs and {count_text(found.parameters)} parameters: on how many "
        f"of {count_text(found.samples)} pictures the first class is the whole net's, and how far "
        f"the probabilities are from its own, in nats a picture."
    )


def tradeoff_rows(found: Tradeoff) -> list[tuple[str, ...]]:
    """The cells of COLUMNS by point."""
    return [
        (
            point.series,
            count_text(point.macs),
            times_text(found.macs / point.macs),
            count_text(point.parameters),
            share_text(point.agreement),
            "–".join(f"{100 * end:.2f}" for end in wilson(point.agreement, found.samples)),
            "—" if point.kl is None else f"{point.kl:.4g}",
        )
        for series in found.series
        for point in found.of(series)
    ]
