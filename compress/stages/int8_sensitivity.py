"""scan_int8: which layers hurt in int8, and what would mend the worst of them, all measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.errors import RangeError, StageOrderError
from compress.spread import spread
from compress.stage import Stage
from compress.stages.inner import check_inner, run_inner
from compress.stages.int8_losses import LayerLoss, Losses
from compress.stages.int8_mending import KEEP, Mending, WayLoss, try_ways
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task

FloatArray = NDArray[np.float32]
# One picture in so many judges.
_JUDGES = 4


@dataclass(frozen=True)
class Int8Sensitivity:
    """What `scan_int8` found: `layers` with the greatest loss first.

    quantize: the stages as they were asked for. pictures: how many judged. int8_kl, int8_db: the
    divergence (nats a picture) of the whole int8 net's answers from the float net's, and the SQNR.
    mendings: what was tried for the worst layers, by layer, the best way first; ways: the same ways
    taken for the whole net.
    """

    quantize: str
    pictures: int
    int8_kl: float
    int8_db: float | None
    layers: tuple[LayerLoss, ...]
    mendings: tuple[Mending, ...] = ()
    ways: tuple[WayLoss, ...] = ()

    def best(self, layer: str) -> Mending | None:
        """What saves most for `layer`; None where nothing was tried or nothing saves.

        keep_float, which costs time and bytes, only where it saves over twice as much as all else.
        """
        found = [m for m in self.mendings if m.layer == layer and m.gain > 0]
        return max(found, key=lambda m: m.gain / (2 if m.way == KEEP else 1), default=None)


@dataclass(frozen=True, eq=False)
class Sample:
    """Pictures that calibrate, and others that judge."""

    fitting: FloatArray
    judging: FloatArray

    def task(self, task: Task) -> Task:
        """`task`, calibrated by the few fitting pictures."""
        return replace(
            task,
            calibration=lambda: iter((self.fitting,)),
            fingerprint=f"{task.fingerprint}, {len(self.fitting)} of its pictures",
        )


def scan_int8(
    candidate: Candidate,
    task: Task,
    quantize: Stage | tuple[Stage, ...] | None = None,
    *,
    pictures: int = 32,
    mend: int = 6,
) -> Int8Sensitivity:
    """What int8 costs each layer of a folded float candidate, the worst first.

    quantize: the stage, or stages in order, that gives the int8 net; QuantizeInt8() by default.
    pictures: how many judge, at least 1; three times as many others calibrate, all from
    task.calibration at nearly equal distances (of less than four all do both). mend: for so many
    of the worst layers every way to mend is tried (int8_mending.py). It takes about 1.5 float runs
    of the pictures a layer. StageOrderError where the candidate is quantized already, TaskError for
    pictures that cannot be used.
    """
    for name, value, least in (("pictures", pictures, 1), ("mend", mend, 0)):
        if type(value) is not int or value < least:
            raise RangeError(f"scan_int8({name}={value!r}): allowed are whole numbers from {least}")
    if candidate.activations:
        raise StageOrderError(
            "scan_int8 compares a float net with its int8 form, and this one is quantized already; "
            "give the candidate from before QuantizeInt8"
        )
    stages = check_inner("scan_int8", "quantize", QuantizeInt8() if quantize is None else quantize)
    sample = sampled(candidate, task, pictures)
    few = sample.task(task)
    int8 = run_inner("scan_int8", stages, candidate, few).candidate
    losses = Losses(candidate, sample.judging)
    whole, layers = losses.rows(int8)
    found = Int8Sensitivity(
        quantize=", ".join(repr(stage) for stage in stages),
        pictures=len(sample.judging),
        int8_kl=whole.divergence,
        int8_db=whole.sqnr_db,
        layers=layers,
    )
    if not mend:
        return found
    mendings, ways = try_ways(candidate, losses, stages, few, layers[:mend])
    return replace(found, mendings=mendings, ways=ways)


def sampled(candidate: Candidate, task: Task, pictures: int) -> Sample:
    """Four times `pictures` of task.calibration: every fourth judges, the others calibrate."""
    shape = candidate.network.input_shape
    given = spread(task.need_calibration("scan_int8"), shape, "scan_int8", _JUDGES * pictures)
    judges = np.arange(len(given)) % _JUDGES == _JUDGES - 1
    return Sample(given[~judges], given[judges]) if judges.any() else Sample(given, given)
