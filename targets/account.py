"""The account of a container's bytes, as data: targets/accounting.py makes it, reports carry it."""

from __future__ import annotations

from dataclasses import dataclass

from compress.errors import ReportError


@dataclass(frozen=True)
class Account:
    """One tensor of a container in the terms of Deep Compression's tables 2 to 5.

    weights of which kept are not zero (P). weight_bits, index_bits (P+Q): of a code and of a gap
    to the one before, 32 and 0 for floats that all stand there. coded_weight_bits,
    coded_index_bits (P+Q+H): what both take in the file, in bits a kept weight, fillers included;
    where one stream holds codes and positions the first is of both and the second None.
    pruned_bytes, shared_bytes: what P and P+Q alone would take, codebook and scales included;
    coded_bytes: what the tensor takes in the file. coding: how it is coded there.
    """

    name: str
    coding: str
    weights: int
    kept: int
    weight_bits: int
    index_bits: int
    coded_weight_bits: float | None
    coded_index_bits: float | None
    pruned_bytes: int
    shared_bytes: int
    coded_bytes: int

    def __post_init__(self) -> None:
        sizes = (self.pruned_bytes, self.shared_bytes, self.coded_bytes)
        if not 0 <= self.kept <= self.weights or min(*sizes, self.weight_bits, self.index_bits) < 0:
            raise ReportError(
                f"account of {self.name!r} has {self.kept} kept of {self.weights} weights, "
                f"{self.weight_bits} and {self.index_bits} bits, {sizes} bytes; none is negative, "
                f"and no more are kept than there are"
            )


@dataclass(frozen=True)
class FileAccount:
    """A container's bytes: its tensors, and what belongs to none; together the whole file."""

    path: str
    sha256: str
    file_bytes: int
    overhead_bytes: int
    tensors: tuple[Account, ...]

    def __post_init__(self) -> None:
        found = self.overhead_bytes + sum(tensor.coded_bytes for tensor in self.tensors)
        if found != self.file_bytes:
            raise ReportError(
                f"account of {self.path} adds up to {found} bytes, the file has {self.file_bytes}"
            )
