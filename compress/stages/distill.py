"""Distill: a short training on integer grids by the float net's own answers, without labels.

Hinton et al. 2015 (arXiv:1503.02531), section 2: the divergence of softened probabilities. Biases
and the steps of all grids are trained (see compress/fake_quant.py), and weights where asked, on
the calibration pictures alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from compress.calibrate import checked_batches
from compress.candidate import Candidate
from compress.constrained import Constrained, constrained
from compress.errors import RangeError, TaskError
from compress.network import blocks
from compress.scratch import Scratch
from compress.stage import Stage, StageResult
from compress.stages.acting_norms import with_room_for_biases
from compress.stages.inner import check_inner, run_inner
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.train_int8 import quantized_result
from compress.task import Task
from compress.untrained import untrained_all


@dataclass(frozen=True)
class Distill:
    """Quantize by `quantize`, then `steps` steps of Adam towards the answers of the float net.

    The float net is the candidate as handed in, its batch norms folded. steps: 0 and more; each
    takes the next `batch` pictures of task.calibration, over and over in their order. The answers
    are compared at `temperature`, above 0. learning_rate: above 0, at the first step; it falls to
    0 along a cosine. trains: "biases", and all else of one axis: the steps of the grids and the
    values of shared weights; or "all": the weights, too.

    Pruned weights stay zero, shared ones in their clusters, zero points as calibrated. One batch
    is in memory at a time, and the float net's answers.
    """

    quantize: Stage | tuple[Stage, ...] = field(default_factory=QuantizeInt8)
    steps: int = field(kw_only=True)
    learning_rate: float = 2e-5
    batch: int = 16
    temperature: float = 1.0
    trains: Literal["all", "biases"] = "biases"
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise RangeError(
                    f"Distill({name}={value!r}): allowed are whole numbers from {least}"
                )
        for name in ("learning_rate", "temperature"):
            value = getattr(self, name)
            # Above, the optimizer's own arithmetic leaves float32.
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and 0 < value <= 1e30):
                raise RangeError(f"Distill({name}={value!r}): allowed are numbers over 0, to 1e30")
        if self.trains not in ("all", "biases"):
            raise RangeError(f"Distill(trains={self.trains!r}): allowed are 'all' and 'biases'")
        check_inner("Distill", "quantize", self.quantize)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        task.need_calibration("Distill")
        stages = check_inner("Distill", "quantize", self.quantize)
        quantized = run_inner("Distill", stages, candidate, task)
        done = quantized.candidate
        if self.steps:
            with constrained(done, learn_steps=True) as held:
                held.begin_from(candidate)
                _Distillation(self, candidate, held, task).run()
            done = with_room_for_biases(held.result)
        return quantized_result(done, quantized.skipped)

    def untrained(self) -> Distill:
        """The grids that `quantize` sets."""
        return replace(self, steps=0, quantize=untrained_all(self.quantize))


@dataclass(eq=False)
class _Distillation:
    """One distillation: the pictures in turn, the teacher's answers to them, the steps."""

    stage: Distill
    teacher: Candidate
    held: Constrained
    task: Task
    answers: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor])

    def run(self) -> None:
        """All steps that are not done yet."""
        model = self.held.model.eval()  # dropout would make the student miss what it could meet
        trained = self._trained(model)
        optimizer = torch.optim.Adam(trained, lr=self.stage.learning_rate)
        scratch = Scratch(self.task.scratch, model, optimizer)
        begun = scratch.restored(self.stage.steps)
        pictures = self._pictures()
        for step in range(self.stage.steps):
            number, images = next(pictures)
            if step < begun:
                continue
            rate = 0.5 * (1 + math.cos(math.pi * step / self.stage.steps))
            for group in optimizer.param_groups:
                group["lr"] = self.stage.learning_rate * rate
            loss = self._loss(model, number, images)
            self._refuse_nan(step, (loss,))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scratch.keep(step + 1)
        self._refuse_nan(self.stage.steps, trained)

    def _refuse_nan(self, steps: int, values: Sequence[torch.Tensor]) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise TaskError(
                f"Distill: NaN or infinity after {steps} steps at learning rate "
                f"{self.stage.learning_rate:g} and temperature {self.stage.temperature:g}; lower "
                f"the one or raise the other"
            )

    def _trained(self, model: nn.Module) -> list[nn.Parameter]:
        """What the optimizer moves; sorted, for parametrizations register in another order."""
        everything = [p for _, p in sorted(model.named_parameters())]
        if self.stage.trains == "all":
            return everything
        for parameter in everything:
            parameter.requires_grad_(parameter.ndim == 1)
        return [p for p in everything if p.requires_grad]

    def _pictures(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Numbered small batches of the calibration pictures, again and again."""
        calibration = self.task.need_calibration("Distill")
        network = self.teacher.network
        while True:
            number = 0
            for _, batch in checked_batches(calibration, network.input_shape, "Distill"):
                for block in blocks(batch, self.stage.batch):
                    yield number, block
                    number += 1

    def _loss(self, model: nn.Module, number: int, images: torch.Tensor) -> torch.Tensor:
        """The mean divergence from the teacher's probabilities, both at the temperature."""
        heat = self.stage.temperature
        if number not in self.answers:
            own = torch.from_numpy(self.teacher.predict(images.numpy())).flatten(1)
            self.answers[number] = F.log_softmax(own / heat, 1)
        ours = F.log_softmax(model(images).flatten(1) / heat, 1)
        targets = self.answers[number]
        # Its gradients shrink by 1 / heat**2, which the square makes good (section 2).
        return F.kl_div(ours, targets, reduction="batchmean", log_target=True) * heat**2
