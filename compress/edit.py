"""Structural edits as data: exact, replayable, without the library that chose them.

`rebuild(spec, edits)` gives the empty net of a candidate. An edit changes modules in place and
never values: the values come from the state that is loaded afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard, cast
from weakref import WeakSet

import torch
from torch import nn

from compress.errors import SpecError
from compress.spec import ModelSpec
from compress.undrawn import Undrawn

_GIVEN: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True)
class FoldedBatchNorm:
    """Batch norm `norm` was folded into `layer`, which has a bias from then on."""

    layer: str
    norm: str

    def apply(self, model: nn.Module) -> None:
        layer = _find(model, self.layer)
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise SpecError(f"edit folds into {self.layer!r}, which is no convolution or linear")
        if not isinstance(_find(model, self.norm), (nn.BatchNorm1d, nn.BatchNorm2d)):
            raise SpecError(f"edit folds {self.norm!r}, which is no batch norm")
        if cast("nn.Parameter | None", layer.bias) is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[0]))
        _replace(model, self.norm, nn.Identity())


@dataclass(frozen=True)
class Factorized:
    """`layer` (linear or 1 x 1 convolution) became two of inner width `rank`: layer.0, layer.1."""

    layer: str
    rank: int

    def apply(self, model: nn.Module) -> None:
        layer = _find(model, self.layer)
        _replace(model, self.layer, factorized(layer, self.layer, self.rank).train(layer.training))


Edit = FoldedBatchNorm | Factorized
_KINDS: Mapping[str, type[Edit]] = {kind.__name__: kind for kind in (FoldedBatchNorm, Factorized)}


def factorized(layer: nn.Module, name: str, rank: int) -> nn.Sequential:
    """Two layers of inner width `rank` in place of one; the bias goes with the second."""
    bias = getattr(layer, "bias", None) is not None
    if isinstance(layer, nn.Linear) and 1 <= rank <= min(layer.weight.shape):
        return nn.Sequential(
            nn.Linear(layer.in_features, rank, bias=False),
            nn.Linear(rank, layer.out_features, bias=bias),
        )
    if is_pointwise(layer) and 1 <= rank <= min(layer.weight.shape[:2]):
        stride = (layer.stride[0], layer.stride[1])
        return nn.Sequential(
            nn.Conv2d(layer.in_channels, rank, 1, stride=stride, bias=False),
            nn.Conv2d(rank, layer.out_channels, 1, bias=bias),
        )
    raise SpecError(f"edit factorizes {name!r} at rank {rank}, which that layer cannot take")


def is_pointwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """True for an ungrouped, unpadded 1 x 1 convolution."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.groups == 1
        and layer.padding in ((0, 0), "valid")
    )


def rebuild(spec: ModelSpec, edits: Sequence[Edit]) -> nn.Module:
    """The empty net: built by the specification, then every edit in order; eval mode.

    torch's generator is left as it was, and random values are not drawn: a parameter may hold
    anything until a state is loaded. The net shares no module with one that was given before.
    """
    with torch.random.fork_rng(devices=[]), Undrawn():
        model = spec.build()
        if any(part in _GIVEN for part in model.modules()):
            model = copy.deepcopy(model)  # a builder that gives the same module twice
        for edit in edits:
            edit.apply(model)
    _GIVEN.update(model.modules())
    return model.eval()


def edit_to_dict(edit: Edit) -> dict[str, Any]:
    """{'kind': class name, fields...}, for JSON."""
    return {"kind": type(edit).__name__, **asdict(edit)}


def edit_from_dict(raw: Mapping[str, Any]) -> Edit:
    """The inverse of `edit_to_dict`; SpecError for an unknown kind or wrong fields."""
    fields = dict(raw)
    kind = _KINDS.get(str(fields.pop("kind", "")))
    if kind is None:
        raise SpecError(f"edit of unknown kind in {dict(raw)!r}; known: {', '.join(_KINDS)}")
    try:
        edit = kind(**fields)
    except TypeError as error:
        raise SpecError(f"edit {dict(raw)!r} has wrong fields: {error}") from error
    wrong = [k for k, v in asdict(edit).items() if not isinstance(v, int if k == "rank" else str)]
    if wrong:
        raise SpecError(f"edit {dict(raw)!r} has a wrong type in {', '.join(wrong)}")
    return edit


def _find(model: nn.Module, name: str) -> nn.Module:
    try:
        if not name:
            raise AttributeError("no name")
        return model.get_submodule(name)
    except AttributeError as error:
        raise SpecError(
            f"edit names {name!r}, which the net does not have; give the specification of the net "
            f"that was edited"
        ) from error


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    _find(model, name)
    parent, _, child = name.rpartition(".")
    setattr(_find(model, parent) if parent else model, child, new)
