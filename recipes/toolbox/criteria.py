"""The criteria of `edgepress check`: what was found, what is allowed, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recipes.classifying.changes import Comparison
from targets.intervals import mcnemar
from targets.measurement import Measurement, ratio
from targets.units import bytes_text, points_text, share_text, time_text


@dataclass(frozen=True)
class Criterion:
    """One line of the check. Passed means found <= allowed: the interval is told, never used.

    `measure`: 'bytes', 'top-1 drop', 'changed answers' (shares in [0, 1]) or 'latency ratio'.
    `interval`: 95 % around `found`, None for what is exact. `said`: what was found, in words.
    """

    measure: str
    found: float
    allowed: float
    interval: tuple[float, float] | None
    said: str
    permitted: str

    @property
    def passed(self) -> bool:
        return self.found <= self.allowed

    @property
    def certain(self) -> bool:
        """False where the interval reaches over the limit: another sample might judge otherwise."""
        if self.interval is None:
            return True
        low, high = self.interval
        return high <= self.allowed if self.passed else low > self.allowed

    def line(self) -> str:
        """'passed  bytes: 1.24 MB (1,237,000), 1.50 MB allowed'."""
        verdict = "passed" if self.passed else "failed"
        doubt = "" if self.certain else "; within the uncertainty: measure more to be sure"
        return f"{verdict}  {self.measure}: {self.said}, {self.permitted} allowed{doubt}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"passed": self.passed, "certain": self.certain}


def bytes_criterion(found: int, allowed: int) -> Criterion:
    """The file's size."""
    said = f"{bytes_text(found)} ({found:,})"
    return Criterion("bytes", found, allowed, None, said, f"{bytes_text(allowed)} ({allowed:,})")


def drop_criterion(found: Comparison, allowed: float) -> Criterion:
    """Top-1 lost, net; on pictures without labels, changed answers, of which it is at most."""
    if not found.labelled:
        low, high = found.changed_interval()
        said = (
            f"{share_text(found.changed_share)} ({len(found.changes)} of {found.samples} pictures "
            f"without labels; 95 % interval {share_text(low)} to {share_text(high)}; top-1 cannot "
            f"have dropped more on them)"
        )
        share = found.changed_share
        return Criterion("changed answers", share, allowed, (low, high), said, share_text(allowed))
    low, high = found.drop_interval()
    said = (
        f"{_points(found.drop)} points ({found.right_before} -> {found.right_after} right of "
        f"{found.samples} labelled pictures; {found.lost} lost, {found.won} won; 95 % interval "
        f"{_points(low)} to {_points(high)}; McNemar p = {mcnemar(found.lost, found.won):.2f})"
    )
    permitted = f"{_points(allowed)} points"
    return Criterion("top-1 drop", found.drop, allowed, (low, high), said, permitted)


def latency_criterion(measured: Sequence[Measurement], allowed: float) -> Criterion:
    """Median time of the first file / of the second, measured in turns."""
    file, reference = measured
    found = ratio(file, reference)
    noisy = [m.file for m in measured if m.noisy or not m.settled]
    note = f"; noisy: {', '.join(noisy)}" if noisy else ""
    said = (
        f"{found.value:.2f} ({time_text(file.median_ms)} against "
        f"{time_text(reference.median_ms)}, {file.threads} thread(s); 95 % interval "
        f"{found.low:.2f} to {found.high:.2f}{note})"
    )
    interval = (found.low, found.high)
    return Criterion("latency ratio", found.value, allowed, interval, said, f"{allowed:.2f}")


def _points(share: float) -> str:
    """Points with a sign only below zero: a drop of -0.2 is a gain."""
    return points_text(share).removeprefix("+").removeprefix("±")
