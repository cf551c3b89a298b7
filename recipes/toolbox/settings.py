"""The settings of a Trainer, checked before anything runs: what was given, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.errors import DataError, RangeError
from recipes.toolbox.optimizing import KINDS, PRECISIONS
from recipes.toolbox.rates import RATES
from recipes.toolbox.sampling import SAMPLINGS
from recipes.toolbox.training_device import DEVICES

if TYPE_CHECKING:
    from recipes.toolbox.training import Trainer

_BALANCED = "balanced"


def check(trainer: Trainer) -> None:
    """RangeError for the first setting that is not allowed, DataError for pictures and labels."""
    for name, known in (
        ("optimizer", KINDS),
        ("rate", RATES),
        ("sampling", SAMPLINGS),
        ("device", DEVICES),
        ("precision", PRECISIONS),
    ):
        _need(trainer, name, _one_of(getattr(trainer, name), known), ", ".join(known))
    for name in ("batch_size", "readers"):
        _need(trainer, name, _is_whole(getattr(trainer, name), 1), "whole numbers from 1")
    _need(trainer, "shift", _is_whole(trainer.shift, 0), "whole numbers from 0")
    for name in ("warm_up", "label_smoothing", "brightness", "contrast"):
        _need(trainer, name, 0 <= _number(getattr(trainer, name)) < 1, "numbers in [0, 1)")
    for name in ("weight_decay", "mixup"):
        _need(trainer, name, _number(getattr(trainer, name)) >= 0, "finite numbers from 0")
    for name in ("flip", "channels_last"):
        _need(trainer, name, isinstance(getattr(trainer, name), bool), "True, False")
    _need(trainer, "crop", 0 < _number(trainer.crop) <= 1, "numbers in (0, 1]")
    _need(trainer, "switch", 0 < _number(trainer.switch) < 1, "numbers in (0, 1)")
    _need(trainer, "temperature", _number(trainer.temperature) > 0, "finite numbers over 0")
    rate, alpha = trainer.sgd_rate, trainer.alpha
    _need(trainer, "sgd_rate", rate is None or _number(rate) > 0, "None, finite numbers over 0")
    _need(trainer, "alpha", alpha is None or 0 <= _number(alpha) <= 1, "None, numbers in [0, 1]")
    _need(trainer, "class_weights", _are_weights(trainer.class_weights), _WEIGHTS)
    patterns = trainer.frozen
    names = isinstance(patterns, tuple) and all(isinstance(p, str) for p in patterns)
    _need(trainer, "frozen", names, "a tuple of names with wildcards, ('features.*',)")
    _check_data(trainer)


_WEIGHTS = f"None, '{_BALANCED}', or a tuple of finite numbers over 0, one for each class"


def _check_data(trainer: Trainer) -> None:
    pictures, labels = len(trainer.pixels), trainer.labels
    if not pictures:
        raise DataError("no pictures to train on; give some")
    if labels is None:
        _check_unlabelled(trainer)
    elif len(labels) != pictures:
        raise DataError(f"{pictures} pictures with {len(labels)} labels to train on; give as many")
    elif labels.min() < 0:
        raise DataError(f"a picture to train on has label {labels.min()}; classes count from 0")


def _check_unlabelled(trainer: Trainer) -> None:
    if trainer.teacher is None:
        raise RangeError("Trainer(labels=None): without labels a teacher is needed; give one")
    if trainer.alpha is not None and trainer.alpha < 1:
        raise RangeError(
            f"Trainer(labels=None, alpha={trainer.alpha:g}): without labels the teacher alone "
            f"counts; leave alpha out"
        )
    for name, without in (("class_weights", None), ("sampling", "all")):
        if getattr(trainer, name) != without:
            raise RangeError(f"Trainer(labels=None): {name} needs labels; leave it out")


def check_classes(trainer: Trainer, classes: int) -> None:
    """DataError or RangeError where the net, which has `classes` outputs, does not fit."""
    if trainer.labels is not None and int(trainer.labels.max()) >= classes:
        raise DataError(
            f"a picture to train on has label {int(trainer.labels.max())}, the net puts out "
            f"{classes} classes from 0"
        )
    weights = trainer.class_weights
    if isinstance(weights, tuple) and len(weights) != classes:
        raise RangeError(
            f"Trainer has {len(weights)} class_weights, the net puts out {classes} classes; give "
            f"one for each"
        )


def _need(trainer: Trainer, name: str, good: bool, allowed: str) -> None:
    if not good:
        value = repr(getattr(trainer, name))[:80]
        raise RangeError(f"Trainer({name}={value}): allowed are {allowed}")


def _one_of(value: object, known: Collection[str]) -> bool:
    return isinstance(value, str) and value in known


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _number(value: Any) -> float:
    """The value; NaN, of which every comparison is false, where it is no finite number."""
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else math.nan


def _are_weights(weights: object) -> bool:
    if isinstance(weights, tuple):
        return len(weights) > 0 and all(_number(w) > 0 for w in weights)
    return weights is None or weights == _BALANCED
