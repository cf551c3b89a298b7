"""Calls of onnxruntime whose input lies in the accelerator's memory already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Place(NamedTuple):
    """Memory as onnxruntime names it. vendor: of its maker, -1 where the kind says it."""

    kind: str
    vendor: int = -1


def resident(
    ort: Any, session: Any, inputs: Mapping[str, NDArray[Any]], place: Place, out: Place
) -> Callable[[], object]:
    """One inference from inputs that are brought to `place` now, once, to outputs at `out`.

    With out = Place("cpu") the outputs' download is part of the call.
    """
    binding = session.io_binding()
    for name, values in inputs.items():
        moved = ort.OrtValue.ortvalue_from_numpy(values, place.kind, 0, place.vendor)
        binding.bind_ortvalue_input(name, moved)
    for output in session.get_outputs():
        binding.bind_output(output.name, out.kind)

    def call() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return call
