"""The training loop that the recipes hand to FineTune: resumable, on one process or several.

Epoch e's order, augmentation and dropout are a function of (seed, e) alone, sums are taken in a
fixed order, and the state is written after each epoch; so a run killed anywhere and resumed ends
with the same bytes as one that was not. That holds on the CPU of the same machine, with as many
threads and processes; an accelerator's kernels are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.errors import RangeError
from compress.spec import Preprocess
from compress.task import Batch, Tuning
from recipes.datasets import PictureBlocks
from recipes.toolbox.augmenting import Augmentation
from recipes.toolbox.batches import Maker, Plan, Planner, make_targets
from recipes.toolbox.distributed import Team, processes
from recipes.toolbox.freezing import frozen
from recipes.toolbox.losses import Loss, Targets
from recipes.toolbox.optimizing import Kind, Optimizing, Precision, Schedule
from recipes.toolbox.progress import Progress, counted_bar
from recipes.toolbox.rates import Rate
from recipes.toolbox.reading import Reader, is_held, one_ahead
from recipes.toolbox.sampling import Sampling, balanced_weights
from recipes.toolbox.settings import check, check_classes
from recipes.toolbox.teaching import Teacher, Teaching
from recipes.toolbox.training_state import keep, read_state, restore

# Hinton et al. 2015: best with a considerably lower weight on the labels.
_ALPHA = 0.9


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains on uint8 pictures (N, H, W[, C]); called as `trainer(model, tuning)`.

    pixels: an array, or what reads pictures when they are asked for (recipes.pictures.Prepared),
    with `readers` threads, a batch ahead. labels: int64 (N,); None with a teacher.

    optimizer: "adam-sgd" is Adam for the part `switch` of the epochs, then SGD with the peak rate
    `sgd_rate`, or one learnt from Adam's steps (see optimizing.Optimizing). tuning.learning_rate
    is the peak of the `rate` (see rates.rate_factor). Weight decay leaves biases and norms alone.

    shift, flip, crop, brightness, contrast: of the pictures as `pixels` gives them, prepared for
    the net; see augmenting.Augmentation. mixup: the alpha of
    losses.Mixing, 0 for none. class_weights: of the loss, "balanced" against unequal classes (see
    sampling.balanced_weights); sampling: see sampling.sample. frozen: see freezing.frozen.

    teacher: a candidate or a predict function, whose answers weigh `alpha` (0.9; 1 without
    labels) and the labels the rest, at `temperature` (see losses.Loss).

    device: "cpu", "cuda", "mps", or "auto"; the model is on the CPU again afterwards. Under a
    launcher each process takes its share of each batch (see distributed.Team): `batch_size` is
    that of all together, and batch norm sees a share at a time. channels_last is faster for nets
    with depthwise layers. precision "bfloat16": convolutions and products, the teacher's too, in
    it, weights, sums and loss in float32; 1.8 times as fast for dense nets where the processor
    has it, slower for depthwise layers, and too coarse for TrainInt8's grids. Raises RangeError or
    DataError for what is not allowed.
    """

    pixels: PictureBlocks
    labels: NDArray[np.int64] | None
    preprocess: Preprocess
    optimizer: Kind = "adam"
    batch_size: int = 128
    rate: Rate = "cosine"
    warm_up: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    channels_last: bool = False
    precision: Precision = "float32"
    switch: float = 0.5
    sgd_rate: float | None = None
    crop: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    sampling: Sampling = "all"
    frozen: tuple[str, ...] = ()
    teacher: Teacher | None = None
    alpha: float | None = None
    temperature: float = 4.0
    device: Literal["cpu", "cuda", "mps", "auto"] = "cpu"
    readers: int = 2

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, tuning: Tuning) -> None:
        """Train `model` in place for tuning.epochs, going on from tuning.checkpoint."""
        team = Team.join(self.device)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        try:
            with frozen(model, self.frozen), _fixed_order(team.device):
                _Training(self, team, model, tuning).run()
        finally:
            model.to(device="cpu", memory_format=torch.contiguous_format)

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            *(self.optimizer, self.rate, self.warm_up, self.weight_decay),
            *(self.switch, self.sgd_rate),
        )

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(self.crop, self.flip, self.shift, self.brightness, self.contrast)

    @property
    def planner(self) -> Planner:
        count, how = len(self.pixels), self.augmentation
        return Planner(count, self.labels, self.batch_size, self.sampling, how, self.mixup)

    def weights_of(self, classes: int) -> NDArray[np.float64] | None:
        """The classes' weights in the loss, (classes,); None where all weigh 1."""
        if self.class_weights is None or self.labels is None:
            return None
        if self.class_weights == "balanced":
            return np.array(balanced_weights(self.labels, classes))
        return np.array(self.class_weights)


class _Training:
    """One training as one of its processes sees it."""

    def __init__(self, trainer: Trainer, team: Team, model: nn.Module, tuning: Tuning) -> None:
        self._trainer, self._team, self._model, self._tuning = trainer, team, model, tuning
        self._called = team.wrap(model)
        self._optimizing = Optimizing(model, tuning, trainer.schedule)
        self._teaching = trainer.teacher and Teaching(trainer.teacher, team.device)
        self._planner = trainer.planner
        smallest = self._planner.size // self._planner.steps
        if smallest < team.share.count:
            raise RangeError(
                f"{team.share.count} processes cannot share batches of {smallest} pictures; raise "
                f"batch_size or launch fewer"
            )
        self._loss: Loss | None = None
        self._weights: NDArray[np.float64] | None = None

    def run(self) -> None:
        """All epochs that are not done yet."""
        begun = self._restored()
        reader = Reader(self._trainer.pixels, self._trainer.readers)
        bar = counted_bar("training") if self._team.leads else nullcontext(_silent)
        try:
            with bar as progress:
                for epoch in range(begun, self._tuning.epochs):
                    self._epoch(epoch, reader, progress)
                    self._team.average_buffers(self._model)
                    self._tuning.after_epoch(epoch)
                    if self._tuning.checkpoint is not None and self._team.leads:
                        keep(self._tuning.checkpoint, self._model, self._optimizing, epoch + 1)
        finally:
            reader.close()

    def _restored(self) -> int:
        """The first epoch to be done, the state before it loaded in every process."""
        path, state = self._tuning.checkpoint, None
        if self._team.leads and path is not None and path.is_file():
            state = read_state(path, self._tuning.epochs)
        state, path = self._team.from_first((state, path))
        if state is None or path is None:
            return 0
        return restore(state, path, self._model, self._optimizing)

    def _epoch(self, epoch: int, reader: Reader, progress: Progress) -> None:
        rng = np.random.default_rng([self._tuning.seed, epoch])
        # Other draws in each process: the same dropout for every share would be no chance.
        torch.manual_seed(int(rng.integers(1 << 62)) + self._team.share.index)
        self._optimizing.begin(epoch)
        steps = self._planner.steps
        total = steps * self._tuning.epochs
        for step, (plan, pictures) in enumerate(self._batches(rng, reader), start=epoch * steps):
            progress(step, total, f"epoch {epoch + 1} of {self._tuning.epochs}")
            self._step(plan, pictures, step / total)

    def _batches(self, rng: np.random.Generator, reader: Reader) -> Iterator[tuple[Plan, Batch]]:
        trainer = self._trainer
        maker = Maker(reader, trainer.augmentation, trainer.preprocess, self._team.share)

        def made(plan: Plan) -> tuple[Plan, Batch]:
            return plan, maker.make(plan)

        plans = self._planner.plans(rng)
        return map(made, plans) if is_held(trainer.pixels) else one_ahead(made, plans)

    def _layout(self) -> torch.memory_format:
        if self._trainer.channels_last:
            return torch.channels_last
        # As the pictures come, unless gradients are exchanged: those must lie as the weights do.
        return torch.preserve_format if processes() == 1 else torch.contiguous_format

    def _step(self, plan: Plan, pictures: Batch, done: float) -> None:
        # Cloned into torch's own memory, always aligned alike: kernels may sum by alignment.
        images = torch.from_numpy(pictures).clone(memory_format=self._layout())
        with self._precision():
            outputs = self._called(images.to(self._team.device)).flatten(1).float()
            if self._loss is None:
                self._loss = self._loss_for(outputs.shape[1])
            targets = self._targets(plan, pictures, outputs.shape[1])
        self._optimizing.zero_grad()
        self._loss(outputs, targets).backward()
        self._optimizing.step(done)

    def _precision(self) -> torch.autocast:
        lower = self._trainer.precision != "float32"
        return torch.autocast(self._team.device.type, torch.bfloat16, enabled=lower)

    def _loss_for(self, classes: int) -> Loss:
        """The loss, once the net has said how many classes it knows; checked against them."""
        trainer = self._trainer
        check_classes(trainer, classes)
        self._weights = trainer.weights_of(classes)
        weights = None
        if self._weights is not None:
            weights = torch.from_numpy(self._weights).float().to(self._team.device)
        alpha = _ALPHA if trainer.alpha is None else trainer.alpha
        return Loss(trainer.label_smoothing, weights, alpha, trainer.temperature)

    def _targets(self, plan: Plan, pictures: Batch, classes: int) -> Targets:
        """What the outputs for `pictures` are compared with, on the device."""
        trainer, device = self._trainer, self._team.device
        targets = make_targets(plan, trainer.labels, self._weights, self._team.share)
        if self._teaching is not None:
            answers = self._teaching(pictures)
            if answers.shape[1] != classes:
                raise RangeError(
                    f"the teacher puts out {answers.shape[1]} classes, the net {classes}; a "
                    f"teacher of the same classes is needed"
                )
            targets = replace(targets, teacher=answers)
        return targets.to(device)


def _silent(done: int, total: int, now: str) -> None:
    """Progress of the processes that do not print."""


@contextmanager
def _fixed_order(device: torch.device) -> Iterator[None]:
    """Deterministic kernels on the CPU, and the caller's choice again afterwards.

    Else two threads add the gradients of shared weights in the order in which they come.
    """
    if device.type != "cpu":  # accelerators lack some of them, and would refuse
        yield
        return
    chosen = torch.get_deterministic_debug_mode()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    # Not use_deterministic_algorithms, which imports the compiler first: 1.5 s.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, changes nothing
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(chosen)
        torch.utils.deterministic.fill_uninitialized_memory = filled
