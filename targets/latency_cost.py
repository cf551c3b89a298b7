"""A candidate's latency in a runtime, measured on the file it would become: a budget for stages."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from compress.candidate import Candidate
from compress.errors import RangeError
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.measurement import Plan, Target

Runtime = Literal["onnxruntime", "litert"]
# A choice asks a dozen times: a second of calls in three processes each, not a report's figure.
_PLAN = Plan(runs=200, rounds=3, warmup_s=0.5, max_s=0.4)


@dataclass(frozen=True)
class LatencyCost:
    """Median latency in ms of the float file that a candidate gives, for LatencyBudget(measure=).

    runtime: "onnxruntime" or "litert"; threads: 1 and more. Its repr says both. Batch norms are
    folded by the exporters; nothing else may run on the machine meanwhile.
    """

    runtime: Runtime = "onnxruntime"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.runtime not in get_args(Runtime):
            raise RangeError(
                f"LatencyCost(runtime={self.runtime!r}): allowed are {', '.join(get_args(Runtime))}"
            )
        if type(self.threads) is not int or self.threads < 1:
            raise RangeError(
                f"LatencyCost(threads={self.threads!r}): allowed are whole numbers from 1"
            )

    def __call__(self, candidate: Candidate) -> float:
        exporter = OnnxExporter() if self.runtime == "onnxruntime" else TFLiteExporter()
        suffix = ".onnx" if self.runtime == "onnxruntime" else ".tflite"
        with tempfile.TemporaryDirectory() as folder:
            artifact = exporter(candidate, Path(folder) / f"candidate{suffix}")
            target = Target(LocalDevice(), self.threads)
            (measured,) = benchmark([artifact], [target], _PLAN)
        return measured.median_ms
