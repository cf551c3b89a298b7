"""One operator of an .onnx file: its inputs and attributes, however its opset spells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from compress.errors import ModelError
from compress.importing.building import Array, Constant, NetBuilder, Value

Input = Value | Constant | None


@dataclass(frozen=True)
class Operator:
    """`inputs`: None for one that is left out. `alone`: for each, whether nobody else reads it.

    `attributes` as Python values, text as str; `outputs` counts those that the node names.
    """

    kind: str
    name: str
    opset: int
    inputs: tuple[Input, ...]
    alone: tuple[bool, ...]
    attributes: Mapping[str, Any]
    outputs: int

    def value(self, position: int = 0) -> Value:
        """An input that depends on the picture."""
        found = self._input(position)
        if not isinstance(found, Value):
            raise ModelError(f"its input {position} is no tensor that depends on the picture")
        return found

    def constant(self, position: int) -> Array:
        """An input whose values the file holds."""
        found = self._input(position)
        if not isinstance(found, Constant):
            raise ModelError(f"its input {position} is computed from the picture or missing")
        return found.array

    def optional(self, position: int) -> Array | None:
        """An input whose values the file holds, None where it is left out."""
        return None if self._input(position) is None else self.constant(position)

    def constant_name(self, position: int) -> str:
        found = self._input(position)
        return found.name if isinstance(found, Constant) else ""

    def given(self, position: int) -> bool:
        return self._input(position) is not None

    def get(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)

    def whole(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))

    def wholes(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        return tuple(int(n) for n in self.attributes.get(name, default))

    def listed(self, name: str, position: int) -> tuple[int, ...] | None:
        """Numbers that older opsets have as an attribute and newer ones as an input."""
        if name in self.attributes:
            return self.wholes(name)
        array = self.optional(position)
        return None if array is None else tuple(int(n) for n in array.reshape(-1))

    def axis(self, default: int, rank: int, name: str = "axis") -> int:
        """An axis of a tensor of `rank` axes, counted from the front."""
        return checked_axis(self.whole(name, default), rank)

    def _input(self, position: int) -> Input:
        return self.inputs[position] if position < len(self.inputs) else None


Importer = Callable[[NetBuilder, Operator], "Value | tuple[Value, ...]"]


def checked_axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ModelError(f"it has axis {axis} for a tensor of {rank} axes")
    return axis % rank


def operand(net: NetBuilder, operator: Operator, position: int) -> Value | float:
    """An input of any kind: a tensor, or a number."""
    found = operator.inputs[position]
    if found is None:
        raise ModelError(f"its input {position} is missing")
    return net.tensor(found) if isinstance(found, Constant) else found


def pair(numbers: Sequence[int], what: str) -> tuple[int, int]:
    """Exactly two numbers, for height and width."""
    if len(numbers) != 2:
        raise ModelError(f"its {what} are {list(numbers)}; only pictures (2 axes) are supported")
    return cast("tuple[int, int]", tuple(numbers))
