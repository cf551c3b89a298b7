"""The parts of a net by name, for edits."""

from __future__ import annotations

from torch import nn

from compress.errors import SpecError


def find(model: nn.Module, name: str) -> nn.Module:
    """The submodule of that name, which is not the net itself; SpecError where there is none."""
    try:
        if not name:
            raise AttributeError("no name")
        return model.get_submodule(name)
    except AttributeError as error:
        raise SpecError(
            f"edit names {name!r}, which the net does not have; give the specification of the net "
            f"that was edited"
        ) from error


def replace_part(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` in the place of the submodule of that name."""
    find(model, name)
    parent, _, child = name.rpartition(".")
    setattr(find(model, parent) if parent else model, child, new)
