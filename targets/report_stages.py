"""What a report says of the stages and of the layers: what was done, and what each one bears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from compress.errors import ReportError


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that a stage left alone, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class StepRow:
    """What one stage did (compress.candidate.Step); metrics on the validation data."""

    stage: str
    settings: str
    seconds: float
    touched: tuple[str, ...] = ()
    skipped: tuple[SkippedLayer, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    parameters: int = 0
    nonzeros: int = 0
    digest: str = ""
    checkpoint: str = ""
    trained_on: str = ""


@dataclass(frozen=True)
class SizePoint:
    """Bytes of a real file written after `stage`."""

    stage: str
    bytes: int

    def __post_init__(self) -> None:
        if self.bytes < 0:
            raise ReportError(f"bytes is {self.bytes}; 0 or more are allowed")


@dataclass(frozen=True)
class Layer:
    """One parameter of the final candidate. `bits` of one stored value: 32 where it is float."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    nonzeros: int
    sparsity: float
    bits: int
    encoding: str

    def __post_init__(self) -> None:
        if not 0 <= self.nonzeros <= self.parameters or not 0.0 <= self.sparsity <= 1.0:
            raise ReportError(
                f"layer {self.name!r} has {self.nonzeros} non-zeros of {self.parameters}, "
                f"sparsity {self.sparsity}; 0..all and 0..1 are allowed"
            )


@dataclass(frozen=True)
class LayerCurve:
    """One layer pruned alone, without training: values[i] of the metric at sparsities[i].

    weights: how many the layer has. sparsities: in [0, 1), ascending.
    """

    layer: str
    weights: int
    sparsities: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.sparsities))
        if not (rising and all(0.0 <= s < 1.0 for s in self.sparsities)):
            raise ReportError(
                f"sparsities of layer {self.layer!r} are {self.sparsities}; ascending numbers in "
                f"[0, 1) are needed"
            )
        if len(self.values) != len(self.sparsities) or not self.values or self.weights < 1:
            raise ReportError(
                f"layer {self.layer!r} of {self.weights} weights has {len(self.values)} values "
                f"at {len(self.sparsities)} sparsities; equal numbers from 1 are needed"
            )


@dataclass(frozen=True)
class SensitivityScan:
    """How much each layer bears: `metric` on the validation data, more is better.

    whole: the metric of the net before pruning.
    """

    metric: str
    whole: float
    curves: tuple[LayerCurve, ...]
