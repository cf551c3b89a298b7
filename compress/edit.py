"""Structural edits as data: exact, replayable, without the library that chose them.

`rebuild(spec, edits)` gives the empty net of a candidate. An edit changes modules in place and
never values: the values come from the state that is loaded afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import nn

from compress.errors import SpecError
from compress.keep_channels import KeepChannels, SetWidth
from compress.parts import find, replace_part
from compress.spec import ModelSpec
from compress.split_layers import fits, split_layer
from compress.undrawn import Undrawn

_GIVEN: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True)
class FoldedBatchNorm:
    """Batch norm `norm` was folded into `layer`, which has a bias from then on."""

    layer: str
    norm: str

    def apply(self, model: nn.Module) -> None:
        layer = find(model, self.layer)
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise SpecError(f"edit folds into {self.layer!r}, which is no convolution or linear")
        if not isinstance(find(model, self.norm), (nn.BatchNorm1d, nn.BatchNorm2d)):
            raise SpecError(f"edit folds {self.norm!r}, which is no batch norm")
        if cast("nn.Parameter | None", layer.bias) is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[0]))
        replace_part(model, self.norm, nn.Identity())


@dataclass(frozen=True)
class Factorized:
    """`layer` became two or three thinner ones, layer.0, layer.1, ...: see split_layers.

    rank_in: the inner inputs, of a "tucker" alone. bias: the last one has a bias although the
    layer had none.
    """

    layer: str
    rank: int
    split: str = "channel"
    rank_in: int = 0
    bias: bool = False

    def apply(self, model: nn.Module) -> None:
        layer = find(model, self.layer)
        if not fits(layer, self.split, self.rank, self.rank_in):
            inner = f" and {self.rank_in}" if self.rank_in else ""
            raise SpecError(
                f"edit factorizes {self.layer!r} by {self.split!r} at rank {self.rank}{inner}, "
                f"which that layer cannot take"
            )
        bias = self.bias or getattr(layer, "bias", None) is not None
        thin = split_layer(layer, self.split, (self.rank, self.rank_in), bias)
        replace_part(model, self.layer, thin.train(layer.training))


Edit = FoldedBatchNorm | Factorized | KeepChannels | SetWidth
_KINDS: Mapping[str, type[Edit]] = {
    kind.__name__: kind for kind in (FoldedBatchNorm, Factorized, KeepChannels, SetWidth)
}


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
    """{'kind': class name, fields...}, for JSON; fields at their default are left out."""
    own = {f.name: f.default for f in fields(edit)}
    told = {name: value for name, value in asdict(edit).items() if value != own[name]}
    return {"kind": type(edit).__name__, **told}


def edit_from_dict(raw: Mapping[str, Any]) -> Edit:
    """The inverse of `edit_to_dict`; SpecError for an unknown kind or wrong fields."""
    given: dict[str, Any] = {
        name: tuple(cast("list[object]", v)) if isinstance(v, list) else v
        for name, v in raw.items()
    }
    kind = _KINDS.get(str(given.pop("kind", "")))
    if kind is None:
        raise SpecError(f"edit of unknown kind in {dict(raw)!r}; known: {', '.join(_KINDS)}")
    try:
        edit = kind(**given)
    except TypeError as error:
        raise SpecError(f"edit {dict(raw)!r} has wrong fields: {error}") from error
    values = asdict(edit)
    wrong = [f.name for f in fields(edit) if not _is_of(values[f.name], str(f.type))]
    if wrong:
        raise SpecError(f"edit {dict(raw)!r} has a wrong type in {', '.join(wrong)}")
    return edit


def _is_of(value: object, kind: str) -> bool:
    """Whether a value is of the type that a field's annotation names."""
    if kind == "tuple[str, ...]":
        items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (0,)
        return all(isinstance(item, str) for item in items)
    return type(value).__name__ == kind
