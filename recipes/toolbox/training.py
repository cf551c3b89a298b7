"""The training loop that the recipes hand to FineTune: Adam or SGD, cosine rate, resumable.

Epoch e's order, augmentation and dropout are a function of (seed, e) alone, sums are taken in a
fixed order, and the state is written after each epoch; so a run killed anywhere and resumed ends
with the same bytes as one that was not (on the same machine, with as many threads).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.atomic import atomic_path
from compress.errors import CheckpointError
from compress.spec import Preprocess
from compress.task import Tuning
from recipes.toolbox.progress import Progress, counted_bar
from recipes.toolbox.rates import Rate, rate_factor


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains on uint8 pictures (N, H, W[, C]); called as `trainer(model, tuning)`.

    tuning.learning_rate is the peak of the `rate` (see rates.rate_factor). Weight decay leaves
    biases and norms alone. `shift` pads and crops at random by up to that many pixels; `flip`
    mirrors half of the pictures. `channels_last` is faster for nets with depthwise layers.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    preprocess: Preprocess
    optimizer: Literal["adam", "sgd"] = "adam"
    batch_size: int = 128
    rate: Rate = "cosine"
    warm_up: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    channels_last: bool = False

    def __call__(self, model: nn.Module, tuning: Tuning) -> None:
        """Train `model` in place for tuning.epochs, going on from tuning.checkpoint."""
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = self._optimizer(model, tuning.learning_rate)
        begun = _restore(tuning, model, optimizer)
        with _fixed_order(), counted_bar("training") as progress:
            for epoch in range(begun, tuning.epochs):
                self._epoch(model, optimizer, tuning, epoch, progress)
                if tuning.checkpoint is not None:
                    _keep(tuning.checkpoint, model, optimizer, epoch + 1)
        model.to(memory_format=torch.contiguous_format)

    def _optimizer(self, model: nn.Module, rate: float) -> torch.optim.Optimizer:
        # Sorted by name: parametrizations register parameters anew, in another order.
        parameters = [p for _, p in sorted(model.named_parameters()) if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, lr=rate)
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)

    def _epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        tuning: Tuning,
        epoch: int,
        progress: Progress,
    ) -> None:
        rng = np.random.default_rng([tuning.seed, epoch])
        torch.manual_seed(int(rng.integers(1 << 62)))
        loss_of = nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)
        steps = self._steps()
        total = steps * tuning.epochs
        for step, (images, labels) in enumerate(self._batches(rng), start=epoch * steps):
            progress(step, total, f"epoch {epoch + 1} of {tuning.epochs}")
            for group in optimizer.param_groups:
                factor = rate_factor(self.rate, step / total, self.warm_up)
                group["lr"] = tuning.learning_rate * factor
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(images), labels).backward()
            optimizer.step()

    def _steps(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        # Split evenly: a last batch of one picture would have no variance for batch norm.
        for chosen in np.array_split(rng.permutation(len(self.labels)), self._steps()):
            pixels = augment(self.pixels[chosen], self.shift, self.flip, rng)
            images = torch.from_numpy(self.preprocess.normalise(pixels))
            # Cloned into torch's own memory, always aligned alike: kernels may sum by alignment.
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            yield images.clone(memory_format=layout), torch.from_numpy(self.labels[chosen])


@contextmanager
def _fixed_order() -> Iterator[None]:
    """Deterministic kernels, and the caller's choice again afterwards.

    Else two threads add the gradients of shared weights in the order in which they come.
    """
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


def augment(
    pixels: NDArray[np.uint8], shift: int, flip: bool, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Random crops of the zero-padded pictures and random mirrors, each picture its own."""
    result = pixels
    if flip:
        mirrored = rng.random(len(pixels)) < 0.5
        result = result.copy()
        result[mirrored] = result[mirrored][:, :, ::-1]
    if shift:
        height, width = pixels.shape[1:3]
        widths = [(0, 0), (shift, shift), (shift, shift)] + [(0, 0)] * (pixels.ndim - 3)
        padded = np.pad(result, widths)
        tops, lefts = rng.integers(0, 2 * shift + 1, (2, len(pixels)))
        rows = tops[:, None, None] + np.arange(height)[None, :, None]
        columns = lefts[:, None, None] + np.arange(width)[None, None, :]
        result = padded[np.arange(len(pixels))[:, None, None], rows, columns]
    return result


def _keep(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_path(path) as aside:
        torch.save(state, aside)


def _restore(tuning: Tuning, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what `_keep` wrote and give the next epoch; 0 where there is nothing."""
    path = tuning.checkpoint
    if path is None or not path.is_file():
        return 0
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        epoch = state["epoch"]
        if type(epoch) is not int or not 1 <= epoch <= tuning.epochs:
            raise ValueError(f"epoch {epoch!r} of {tuning.epochs}")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # torch.load documents no type for a damaged file
        raise CheckpointError(
            f"training state {path} cannot be resumed from ({type(error).__name__}); delete it "
            f"and --resume again: that fine-tune begins anew"
        ) from error
    return epoch
