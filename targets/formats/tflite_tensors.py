"""The tensors of a .tflite model being rewritten, each on the grids that it is needed on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compress.candidate import ActivationQuant
from targets.formats.tflite_plan import Plan
from targets.formats.tflite_schema import NO_TENSOR, Source, names_of, schema
from targets.formats.tflite_sketch import Quantization, Sketch
from targets.formats.tflite_unpacking import add_unpacking

Grid = ActivationQuant | None


@dataclass
class Tensors:
    """The new model so far, and under which number each source tensor stands in it.

    `held[i][grid]` is source tensor i on that grid, `held[i][None]` its float form.
    """

    source: Source
    plan: Plan
    sketch: Sketch = field(default_factory=Sketch)
    held: dict[int, dict[Grid, int]] = field(default_factory=dict[int, dict[Grid, int]])
    _taken: set[str] = field(default_factory=set[str])
    _reshaped: dict[int, int] = field(default_factory=dict[int, int])

    def make(self, index: int, grid: Grid) -> int:
        """A new tensor for source tensor `index`, on `grid` or float."""
        made = self.add(self.name(index), self.source.shape(index), grid)
        self.held.setdefault(index, {})[grid] = made
        return made

    def add(self, name: str, shape: tuple[int, ...], grid: Grid) -> int:
        """A new activation tensor that stands for no tensor of the source."""
        if grid is None:
            return self.sketch.tensor(name, shape, "FLOAT32")
        return self.sketch.tensor(name, shape, "INT8", quantization=signed(grid))

    def name(self, index: int) -> str:
        """The plan's name for a source tensor; a second tensor of that name gets a number."""
        wanted = self.plan.names.get(index, f"t{index}")
        return self.unique(wanted)

    def unique(self, wanted: str) -> str:
        name = wanted if wanted not in self._taken else f"{wanted};{len(self.sketch.tensors)}"
        self._taken.add(name)
        return name

    def read(self, index: int, grid: Grid) -> int:
        """Source tensor `index` on `grid` (None: float), converted or copied where needed."""
        if index == NO_TENSOR:
            return NO_TENSOR
        if index not in self.held:
            value = self.source.constant(index)
            assert value is not None, f"tensor {index} is read before it is made"
            form = self.plan.forms.get(index)
            if form is None:
                dtype = names_of("TensorType")[self.source.tensors[index].type]
                made = self.sketch.tensor(self.name(index), value.shape, dtype, value)
            else:
                made = add_unpacking(self.sketch, self.name(index), form)
            self.held[index] = {grid: made, None: made}
        if grid not in self.held[index]:
            self.convert(index, next(iter(self.held[index])), grid)
        return self.held[index][grid]

    def convert(self, index: int, have: Grid, want: Grid) -> None:
        """Add the operator that brings a held tensor from one grid (or float) to another."""
        source = self.held[index][have]
        made = self.make(index, want)
        if want is None:
            self.sketch.operator("DEQUANTIZE", 2, [source], [made])
        else:
            self.sketch.operator("QUANTIZE", 1 if have is None else 2, [source], [made])

    def settle(self, index: int) -> None:
        """A float value just made takes on its grid, if it has one; its readers see only that."""
        grid = self.plan.grids.get(index)
        if grid is not None:
            self.convert(index, None, grid)
            del self.held[index][None]

    def reshape(self, tensor: int, name: str, shape: tuple[int, ...], grid: Grid) -> int:
        """`tensor` (of the new model) in another shape; a reshape of a reshape is only one."""
        origin = self._reshaped.get(tensor, tensor)
        if self.sketch.shape(origin) == shape:
            return origin
        made = self.add(self.unique(name), shape, grid)
        sizes = np.array(shape, np.int32)
        wanted = self.sketch.tensor(self.unique(f"{name}.shape"), sizes.shape, "INT32", sizes)
        options = schema().ReshapeOptionsT()
        options.newShape = sizes
        self.sketch.operator("RESHAPE", 1, [origin, wanted], [made], ("ReshapeOptions", options))
        self.note_reshape(tensor, made)
        return made

    def note_reshape(self, tensor: int, reshaped: int) -> None:
        """Remember that `reshaped` holds `tensor` in another shape."""
        self._reshaped[reshaped] = self._reshaped.get(tensor, tensor)


def signed(grid: ActivationQuant) -> Quantization:
    """The grid as an int8 tensor has it: codes and zero point lower by 128."""
    zero_point = np.array([grid.zero_point - 128], np.int64)
    return Quantization(np.array([grid.scale], np.float32), zero_point)
