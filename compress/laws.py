"""The laws that every candidate obeys, checked after each stage.

Rebuilding gives the net's names and shapes; no hook or parametrization stays behind; every encoding
decodes to its parameter, bit for bit; grids lie on tensors of the net, and tied ones are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.blockwise import row_blocks
from compress.edit import rebuild
from compress.encoding import Encoding, Masked
from compress.errors import CheckpointError, EncodingError
from compress.network import check_state

if TYPE_CHECKING:
    from compress.candidate import Candidate


def check_laws(candidate: Candidate) -> None:
    """Raises CheckpointError or EncodingError, one line, for the first law that is broken."""
    empty = rebuild(candidate.spec, candidate.edits)
    check_state(empty, candidate.network.state(), "the candidate")
    for name in candidate.network.foreign_parts():
        raise CheckpointError(
            f"module {name!r} still has hooks or parametrizations; remove them before the net is "
            f"given back"
        )
    parameters = candidate.network.parameters()
    for name, encoding in candidate.encodings.items():
        if name not in parameters:
            raise EncodingError(
                f"encoding for {name!r}, which the net does not have; give the encodings of this "
                f"very net"
            )
        _check_encoding(name, encoding, parameters[name])
    _check_grids(candidate)


def _check_encoding(name: str, encoding: Encoding, parameter: NDArray[np.float32]) -> None:
    if encoding.shape != parameter.shape:
        raise EncodingError(
            f"encoding of {name!r} has shape {encoding.shape}; the parameter has "
            f"{parameter.shape}: give the encodings of this very net"
        )
    for rows in row_blocks(parameter.shape):
        _check_values(name, encoding.part(rows), parameter[rows], rows.start or 0)


def _check_values(
    name: str, encoding: Encoding, parameter: NDArray[np.float32], first_row: int
) -> None:
    decoded = encoding.project(parameter)
    # Compared as bits: 0.0 == -0.0, but their files differ.
    same = _bits(decoded) == _bits(parameter)
    if not same.all():
        index = np.unravel_index(int(np.argmin(same)), parameter.shape)
        place = tuple(int(i) + first_row * (axis == 0) for axis, i in enumerate(index))
        kind = "mask" if isinstance(encoding, Masked) else "codebook"
        raise EncodingError(
            f"{name!r} at {place}: the parameter is {parameter[index]!s}, its {kind} gives "
            f"{decoded[index]!s}; they must be equal bit for bit: change values by with_values"
        )


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(-1)


def _check_grids(candidate: Candidate) -> None:
    """Grids are usable numbers, on tensors that the net has; tied ones are the same."""
    if not candidate.activations:
        return
    for tensor, grid in candidate.activations.items():
        if tensor not in candidate.network.graph.by_id:
            raise EncodingError(
                f"grid for tensor '{tensor}', which the net does not have; quantize this very net"
            )
        if not (2 <= grid.bits <= 16 and 0 <= grid.zero_point < 1 << grid.bits):
            raise EncodingError(
                f"grid of '{tensor}' is out of range: {grid}; bits 2..16, codes >= 0"
            )
        if not (isinstance(grid.scale, float) and 0 < np.float32(grid.scale) < np.inf):
            raise EncodingError(f"scale of '{tensor}' is {grid.scale!r}; a float above 0 is needed")
    for tie in candidate.ties:
        grids = {candidate.activations[t] for t in tie if t in candidate.activations}
        if len({(grid.scale, grid.zero_point, grid.bits) for grid in grids}) > 1:
            names = ", ".join(sorted(map(str, tie)))
            raise EncodingError(
                f"tensors {names} must share a grid, but theirs differ; give them one and the same"
            )
