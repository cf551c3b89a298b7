"""Encodings: what explains the values of a parameter, under one bit-exact law.

`Masked` explains the zeros of a pruned float tensor. `Encoded` explains a tensor whose values
come from a codebook: weight sharing (Han et al. 2016, section 3: float codebook), int8 and int4
(integer codebook with a scale for each channel), binary. The law, checked after every stage:
`encoding.project(parameter)` equals `parameter`, exactly. No encoding = dense float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.blockwise import look_up
from compress.errors import EncodingError

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Masked:
    """Pruned float weights: `mask` is bool, of the parameter's shape, True = kept."""

    mask: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mask.shape

    def project(self, parameter: FloatArray) -> FloatArray:
        """The parameter with exact zeros where pruned."""
        return np.where(self.mask, parameter, np.float32(0))

    def part(self, rows: slice) -> Masked:
        """The encoding of parameter[rows]."""
        return Masked(self.mask[rows])

    def zeros(self) -> NDArray[np.bool_]:
        """True where the weight is pruned."""
        return ~self.mask

    def scaled(self, axis: int, factor: FloatArray) -> Masked:
        """Scaling a channel keeps its zeros."""
        del axis, factor
        return self


@dataclass(frozen=True, eq=False)
class Encoded:
    """Values as `float32(codebook[indices]) * scale`; code 0 is exactly 0.0.

    indices: uint8 or uint16, of the parameter's shape. codebook: float32 (weight sharing) or
    int8 (an integer grid), at most 65,536 entries, codebook[0] == 0. scale: float32, one for each
    channel of `axis`, or of length 1 with axis None.
    """

    indices: IndexArray
    codebook: NDArray[np.float32] | NDArray[np.int8]
    scale: FloatArray
    axis: int | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        channels = 1 if self.axis is None else self.indices.shape[self.axis]
        if self.codebook.ndim != 1 or not 1 <= self.codebook.size <= 1 << 16:
            raise EncodingError(f"codebook of shape {self.codebook.shape}; 1..65536 entries")
        if self.codebook[0] != 0:
            raise EncodingError(f"codebook[0] is {self.codebook[0]}; code 0 must be exactly 0")
        if self.scale.shape != (channels,):
            raise EncodingError(f"scale of shape {self.scale.shape}; ({channels},) is needed")
        if self.indices.size and int(self.indices.max()) >= self.codebook.size:
            raise EncodingError(
                f"index {int(self.indices.max())} in a codebook of {self.codebook.size} entries"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.indices.shape

    @property
    def on_integers(self) -> bool:
        """True where the codebook is an integer grid (int8, int4), False for shared floats."""
        return self.codebook.dtype == np.int8

    @property
    def bits(self) -> int:
        """Bits of a dense index: the least b with 2**b >= codebook entries."""
        return max(1, int(self.codebook.size - 1).bit_length())

    def broadcast_scale(self) -> FloatArray:
        """The scale, shaped to multiply the parameter."""
        if self.axis is None:
            return self.scale.reshape((1,) * self.indices.ndim)
        shape = [1] * self.indices.ndim
        shape[self.axis] = -1
        return self.scale.reshape(shape)

    def integers(self) -> NDArray[np.int8]:
        """The integer grid codes, of the parameter's shape; only where `on_integers`."""
        assert self.codebook.dtype == np.int8
        return look_up(self.codebook.astype(np.int8), self.indices)

    def runtime_form(self) -> tuple[NDArray[np.int8], FloatArray]:
        """(integers, scale above zero) with the same products: TFLite refuses a negative scale.

        A batch norm with a negative gamma leaves one; both signs are turned in its channels.
        """
        turned = self.broadcast_scale() < 0
        integers = self.integers()
        return np.where(turned, -integers, integers), np.abs(self.scale)

    def decode(self) -> FloatArray:
        """The weights, float32. Adding +0.0 turns -0.0 (zero times a negative scale) into 0.0."""
        codebook = self.codebook.astype(np.float32)
        if self.axis is None:
            return look_up(codebook * self.scale + np.float32(0), self.indices)
        values = look_up(codebook, self.indices)
        values *= self.broadcast_scale()
        values += np.float32(0)
        return values

    def project(self, parameter: FloatArray) -> FloatArray:
        """The decoded weights, whatever the parameter is."""
        del parameter
        return self.decode()

    def zeros(self) -> NDArray[np.bool_]:
        """True where the weight is exactly zero."""
        return look_up(self.codebook == 0, self.indices)

    def part(self, rows: slice) -> Encoded:
        """The encoding of parameter[rows]."""
        scale = self.scale[rows] if self.axis == 0 else self.scale
        return replace(self, indices=self.indices[rows], scale=scale)

    def scaled(self, axis: int, factor: FloatArray) -> Encoded:
        """Multiply channel i of `axis` by factor[i] without touching codes or codebook.

        Only a channel whose scale vanishes gets code 0 and scale 1: its weights are zero then.
        """
        if self.axis not in (None, axis):
            raise EncodingError(f"scale lies on axis {self.axis}; cannot take one on axis {axis}")
        return replace(self, scale=(self.scale * factor).astype(np.float32), axis=axis).settled()

    def settled(self) -> Encoded:
        """Code 0 and scale 1 in channels whose scale is zero or subnormal.

        With such a scale an int32 bias could not be expressed, and codes would hide zeros.
        """
        gone = np.abs(self.scale) < np.finfo(np.float32).tiny
        return self.without(gone) if gone.any() else self

    def without(self, gone: NDArray[np.bool_]) -> Encoded:
        """Channels of the scale where `gone` become zero: code 0, scale 1."""
        there = gone.reshape(self.broadcast_scale().shape)
        indices = np.where(there, self.indices.dtype.type(0), self.indices)
        return replace(self, indices=indices, scale=np.where(gone, np.float32(1), self.scale))


Encoding = Masked | Encoded

_TYPES = {
    "indices": ("uint8", "uint16"),
    "codebook": ("float32", "int8"),
    "scale": ("float32",),
}


def _check_types(encoded: Encoded) -> None:
    """Files and users bring arrays of any type; a float index or a NaN must stop here."""
    for part, allowed in _TYPES.items():
        array: NDArray[np.generic] = getattr(encoded, part)
        if array.dtype.name not in allowed:
            raise EncodingError(f"{part} of type {array.dtype}; {' or '.join(allowed)} is needed")
    if not (np.isfinite(encoded.codebook).all() and np.isfinite(encoded.scale).all()):
        raise EncodingError("codebook or scale holds values that are not finite numbers")
    largest = _largest(encoded.codebook) * _largest(encoded.scale)
    if largest > float(np.finfo(np.float32).max):
        raise EncodingError(f"weights as large as {largest:.3g}; float32 ends at 3.4e38")
    if encoded.axis is not None and not 0 <= encoded.axis < encoded.indices.ndim:
        raise EncodingError(f"scale on axis {encoded.axis}; 0..{encoded.indices.ndim - 1} or None")


def _largest(values: NDArray[np.generic]) -> float:
    return float(np.abs(values.astype(np.float64)).max(initial=0))


def encoding_arrays(encoding: Encoding) -> dict[str, NDArray[np.generic]]:
    """The arrays of an encoding by part; the channel axis as an int8 scalar, -1 for None."""
    if isinstance(encoding, Masked):
        return {"mask": encoding.mask}
    axis = np.array(-1 if encoding.axis is None else encoding.axis, np.int8)
    return {
        "indices": encoding.indices,
        "codebook": encoding.codebook,
        "scale": encoding.scale,
        "axis": axis,
    }


def index_dtype(codes: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest index type for a codebook of `codes` entries."""
    return np.uint8 if codes <= 256 else np.uint16


def int8_codebook() -> NDArray[np.int8]:
    """The full int8 grid, code = two's complement byte: 0, 1, ..., 127, -128, ..., -1."""
    return np.arange(256, dtype=np.uint8).view(np.int8)


def int4_codebook() -> NDArray[np.int8]:
    """The full int4 grid, code = two's complement nibble: 0, 1, ..., 7, -8, ..., -1."""
    nibbles = np.arange(16, dtype=np.int8)
    return np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)


def full_grid_bits(codebook: NDArray[np.float32] | NDArray[np.int8]) -> int | None:
    """8 or 4 where `codebook` is the whole int8 or int4 grid, which explains no sharing."""
    if codebook.dtype != np.int8:
        return None
    if np.array_equal(codebook, int8_codebook()):
        return 8
    return 4 if np.array_equal(codebook, int4_codebook()) else None
