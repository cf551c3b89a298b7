"""Adam, SGD, or Adam first and then SGD; state that can be kept after each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from compress.errors import RangeError
from compress.task import Tuning
from recipes.toolbox.rates import Rate, rate_factor

Kind = Literal["adam", "sgd", "adam-sgd"]
KINDS: tuple[Kind, ...] = ("adam", "sgd", "adam-sgd")
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_MOMENTUM = 0.9
# Of the running mean of SGD's rate: Keskar and Socher take Adam's own second decay.
_DECAY = 0.999


@dataclass(frozen=True)
class Schedule:
    """Which optimizer at which rate; see Trainer for the fields."""

    optimizer: Kind
    rate: Rate
    warm_up: float
    weight_decay: float
    switch: float
    sgd_rate: float | None

    def first_of_sgd(self, epochs: int) -> int:
        """The number of the first epoch with SGD; `epochs` where there is none."""
        if self.optimizer == "sgd":
            return 0
        return epochs if self.optimizer == "adam" else max(1, round(self.switch * epochs))


class Optimizing:
    """The optimizer of a training, whichever its epoch has: begin, step, and for checkpoints state.

    After Adam, SGD goes on at `sgd_rate`, or at what Adam's own steps amount to (Keskar and Socher
    2017, arXiv:1712.07628, section 3): the running mean of (p.p) / -(p.g) over Adam's steps p and
    gradients g, in units of the schedule's factor, times 1 - momentum.
    """

    def __init__(self, model: nn.Module, tuning: Tuning, schedule: Schedule) -> None:
        self._groups = _groups(model, schedule.weight_decay)
        self._tuning = tuning
        self._schedule = schedule
        self._switch = schedule.first_of_sgd(tuning.epochs)
        self._mean, self._steps = 0.0, 0
        self._epoch = 0
        self._build()

    def begin(self, epoch: int) -> None:
        """Say which epoch comes; SGD takes over where it is the first of SGD."""
        before, self._epoch = self._on_sgd, epoch
        if self._on_sgd and not before:
            self._build()

    def zero_grad(self) -> None:
        self._current.zero_grad(set_to_none=True)

    def step(self, done: float) -> None:
        """One step, `done` in [0, 1) of the training being over."""
        factor = rate_factor(self._schedule.rate, done, self._schedule.warm_up)
        for group in self._current.param_groups:
            group["lr"] = self._peak * factor
        if self._learns_sgd_rate and factor > 0:
            self._watched_step(factor)
        else:
            self._current.step()

    def state(self) -> dict[str, Any]:
        """Plain data, to be given to `restore`."""
        return {"optimizer": self._current.state_dict(), "swats": [self._mean, self._steps]}

    def restore(self, state: dict[str, Any], epochs_done: int) -> None:
        """Go on from `state`, which was taken after `epochs_done` epochs."""
        # States without "swats" are of earlier versions, which had no switch.
        mean, steps = state.get("swats", [0.0, 0])
        self._mean, self._steps = float(mean), int(steps)
        self._epoch = epochs_done - 1
        self._build()
        self._current.load_state_dict(state["optimizer"])

    @property
    def _on_sgd(self) -> bool:
        return self._epoch >= self._switch

    @property
    def _learns_sgd_rate(self) -> bool:
        schedule = self._schedule
        return schedule.optimizer == "adam-sgd" and schedule.sgd_rate is None and not self._on_sgd

    def _build(self) -> None:
        groups = [dict(group) for group in self._groups]
        if self._on_sgd:
            self._peak = self._sgd_peak()
            self._current: torch.optim.Optimizer = torch.optim.SGD(
                groups, lr=self._peak, momentum=_MOMENTUM, nesterov=True
            )
        else:
            self._peak = self._tuning.learning_rate
            self._current = torch.optim.Adam(groups, lr=self._peak)

    def _sgd_peak(self) -> float:
        if self._schedule.optimizer == "sgd":
            return self._tuning.learning_rate
        if self._schedule.sgd_rate is not None:
            return self._schedule.sgd_rate
        if not self._steps:
            raise RangeError(
                "optimizer='adam-sgd': no step of Adam went down the gradient, so that SGD's rate "
                "cannot be told from them; give sgd_rate"
            )
        return (1 - _MOMENTUM) * self._mean / (1 - _DECAY**self._steps)

    def _watched_step(self, factor: float) -> None:
        """A step of Adam, from which SGD's rate is learnt."""
        parameters = [p for group in self._groups for p in group["params"] if p.grad is not None]
        before = [p.detach().clone() for p in parameters]
        self._current.step()
        squares, products = [], []
        for parameter, old in zip(parameters, before, strict=True):
            assert parameter.grad is not None
            step = parameter.detach() - old
            squares.append((step * step).sum())
            products.append((step * parameter.grad).sum())
        # One transfer from an accelerator, not one for each parameter.
        moved, along = torch.stack([torch.stack(squares), -torch.stack(products)]).sum(1).tolist()
        if along > 0:
            self._mean = _DECAY * self._mean + (1 - _DECAY) * moved / along / factor
            self._steps += 1


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay; biases and norms without."""
    # Sorted by name: parametrizations register parameters anew, in another order.
    parameters = [p for _, p in sorted(model.named_parameters()) if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
