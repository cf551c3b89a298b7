"""Measurement: what one file did on one target, with every raw time; and a fair comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.device import Device, Provenance

NOISY_SPREAD = 0.1
"""torch.utils.benchmark warns above the same IQR / median."""
FEWEST_PROCESSES = 3
"""With two, Student's t has one degree of freedom, and the interval says nothing."""
# The standard deviation of a median in units of a mean's, of many normal values.
_MEDIAN = math.sqrt(math.pi / 2)


@dataclass(frozen=True)
class Target:
    """Where and how files are measured. The runtime follows from the file: .onnx or .tflite.

    engine: of targets.onboard.engine; "cpu" is the runtime with its own kernels. cpus: the numbers
    of those that the process is kept on; none: the system chooses. software_gpu: a GPU engine may
    compute on an adapter that is a program, which gives outputs and no latency.
    """

    device: Device
    threads: int = 1
    engine: str = "cpu"
    cpus: tuple[int, ...] = ()
    software_gpu: bool = False

    @property
    def name(self) -> str:
        """As a user writes it: `local`, `local+webgpu`."""
        return named(self.device.name, self.engine)


def named(device: str, engine: str) -> str:
    """A target's name: the device's, and the engine's behind a plus where it is not "cpu"."""
    return device if engine == "cpu" else f"{device}+{engine}"


@dataclass(frozen=True)
class Plan:
    """How much to measure: `rounds` processes for each file, at most `runs` timed calls in each.

    A process stops early after `max_s` seconds of timed calls, and warms up until two windows of
    calls agree, for at most `warmup_s`. `timeout_s` bounds the whole process.
    """

    runs: int = 100
    rounds: int = 5
    warmup_s: float = 2.0
    max_s: float = 1.0
    timeout_s: float = 120.0
    seed: int = 0


@dataclass(frozen=True)
class Measurement:
    """One file on one target. `times_ms` holds each process's raw times, oldest first.

    load_ms and first_ms are medians over the processes (first_ms: the first call, which pays for
    what the runtime puts off); peak_rss_bytes is the largest, of the whole process, of which
    rss_base_bytes (the smallest) were there before the file was loaded. rss_load_bytes: resident
    once the file is loaded, a median; peak_rss_load_bytes: the largest until then. `settled` is
    False where a warm-up ran into its limit; `throttled` True where the clock fell while the times
    were taken, None where the device does not show it. `untimed`: why the times, if there are any,
    are no latency. `instructions`: of one inference, "insns" and those of each class by name, the
    fewest of several calls; `instructions_spread`: how far the most lay above, as a fraction.
    `accelerator`, of GPU engines: the adapter, nodes left on the processor, copies between, as far
    as the runtime tells; `resident_ms`: the median with the input in its memory already (on WebGPU
    the output still comes back: nothing else waits for it); None where it cannot be timed.
    """

    file: str
    sha256: str
    runtime: str
    runtime_version: str
    provider: str
    device: str
    threads: int
    load_ms: float
    first_ms: float
    times_ms: tuple[tuple[float, ...], ...]
    warmups: tuple[int, ...]
    settled: bool
    peak_rss_bytes: int | None
    rss_base_bytes: int | None
    provenance: Provenance
    environment: Mapping[str, str | int | float | None]
    rss_load_bytes: int | None = None
    peak_rss_load_bytes: int | None = None
    engine: str = "cpu"
    untimed: str | None = None
    throttled: bool | None = None
    instructions: Mapping[str, int] | None = None
    instructions_spread: float | None = None
    resident_ms: float | None = None
    accelerator: Mapping[str, Any] | None = None

    @property
    def target(self) -> str:
        """As a user writes it (see Target.name)."""
        return named(self.device, self.engine)

    @property
    def timed(self) -> bool:
        """Whether there is a latency: times, taken on the hardware named."""
        return self.untimed is None and self.provenance == "measured"

    @cached_property
    def _sorted(self) -> NDArray[np.float64]:
        return np.sort(np.concatenate([np.asarray(p, np.float64) for p in self.times_ms]))

    def quantile_ms(self, q: float) -> float:
        """Quantile `q` in [0, 1] of all raw times together."""
        return float(np.quantile(self._sorted, q))

    @property
    def median_ms(self) -> float:
        return self.quantile_ms(0.5)

    @property
    def p10_ms(self) -> float:
        return self.quantile_ms(0.1)

    @property
    def p90_ms(self) -> float:
        return self.quantile_ms(0.9)

    @property
    def runs(self) -> int:
        return int(self._sorted.size)

    @property
    def spread(self) -> float:
        """Interquartile range / median of all raw times."""
        return (self.quantile_ms(0.75) - self.quantile_ms(0.25)) / self.median_ms

    @property
    def noisy(self) -> bool:
        """True where the spread exceeds 0.1, or the clock fell: no figure to rely on."""
        return self.spread > NOISY_SPREAD or bool(self.throttled)


@dataclass(frozen=True)
class Ratio:
    """How long A takes in units of B, and the interval for it in a repeated bench.

    `told`: whether enough processes were measured for an interval to mean anything.
    """

    value: float
    low: float
    high: float
    confidence: float
    told: bool = True


def ratio(a: Measurement, b: Measurement) -> Ratio:
    """How long A takes in units of B: 0.5 is twice as fast. See `ratio_of_times`."""
    return ratio_of_times(a.times_ms, b.times_ms)


Times = Sequence[Sequence[float]]
"""Raw times in ms, process by process."""


def ratio_of_times(a: Times, b: Times, confidence: float = 0.95) -> Ratio:
    """How long A takes in units of B, and where that falls when the bench is repeated.

    Each process has at least one time. Processes, not single calls, are what varies (Kalibera and
    Jones, "Rigorous benchmarking in reasonable time", ISMM 2013, section 4): calls in one process
    share its memory layout. Measured with equally many rounds, A and B are taken in the pairs that
    ran side by side, which cancels slow drift of the machine. The value is the median over the
    pairs; the interval that of another median of as many: Student's t on the logarithms, with the
    normal distribution's ratio of a median's deviation to a mean's. One process has no width.
    """
    of_a, of_b = (np.array([np.median(times) for times in raw], np.float64) for raw in (a, b))
    if of_a.size == of_b.size:
        ratios = of_a / of_b
        value, variance, freedom = np.median(ratios), _variance(ratios), ratios.size - 1
    else:
        value = np.median(of_a) / np.median(of_b)
        parts = [_variance(of_a), _variance(of_b)]
        variance = sum(parts)
        freedom = _welch(parts, [of_a.size, of_b.size])
    value, width = float(value), 1.0
    if variance and freedom:
        quantile = _t_quantile(0.5 + confidence / 2, freedom)
        width = math.exp(quantile * _MEDIAN * math.sqrt(2 * variance))
    told = min(of_a.size, of_b.size) >= FEWEST_PROCESSES
    return Ratio(value, value / width, value * width, confidence, told)


def _variance(values: NDArray[np.float64]) -> float:
    """Of the mean of their logarithms; 0 for one alone, and for equal ones."""
    if values.size < 2 or np.ptp(values) < 1e-12 * values.max():
        return 0.0
    return float(np.var(np.log(values), ddof=1)) / values.size


def _welch(parts: Sequence[float], sizes: Sequence[int]) -> float:
    """Degrees of freedom of a sum of two variances of means (Welch, Biometrika 34, 1947)."""
    below = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True) if size > 1)
    return sum(parts) ** 2 / below if below else 0.0


def _t_quantile(share: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
