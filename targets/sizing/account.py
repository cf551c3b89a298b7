"""The bytes of a file by cause, as data: from the fp32 weights to the file, adding up exactly.

The causes are taken in this order, each on what the one before left over:

    structure  weights that the file has more or fewer of: batch norm folded, layers factorized
    zeros      weights that are zero and have no value of their own in the file: 4 bytes each
    levels     each of the others as a code of so many bits, not as 32
    coding     what codes and the positions of the zeros take in the file, less the codes' bits:
               below 0 where entropy coding pays, above it where positions and padding cost more

That makes the weights' bytes; codebooks, graph and metadata come on top.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from compress.errors import ReportError

_FLOAT_BYTES = 4


class StoredWeights(NamedTuple):
    """One tensor of weights in a file.

    elements: weights; stored: those that have a code or a value of their own there (all, or only
    what is not zero); bits: of one, before coding; weight_bytes: what codes, values and positions
    take; table_bytes: codebook and scales.
    """

    elements: int
    stored: int
    bits: int
    weight_bytes: int
    table_bytes: int = 0


@dataclass(frozen=True)
class SizeAccount:
    """The bytes of one file by cause; together `file_bytes`.

    fp32_bytes: the weights that it is compared with, at 4 bytes each. The four changes may be
    negative; codebooks (with scales and zero points), graph and metadata may not.
    """

    path: str
    sha256: str
    file_bytes: int
    fp32_bytes: int
    structure_bytes: int
    zeros_bytes: int
    levels_bytes: int
    coding_bytes: int
    codebook_bytes: int
    graph_bytes: int
    metadata_bytes: int

    def __post_init__(self) -> None:
        least = min(
            *(self.file_bytes, self.fp32_bytes, self.weight_bytes, self.codebook_bytes),
            *(self.graph_bytes, self.metadata_bytes),
        )
        found = self.weight_bytes + self.codebook_bytes + self.graph_bytes + self.metadata_bytes
        if least < 0 or found != self.file_bytes:
            raise ReportError(
                f"the causes of the bytes of {self.path} add up to {found}, the file has "
                f"{self.file_bytes}; they must be equal, and no part below 0"
            )

    @property
    def weight_bytes(self) -> int:
        """What codes, values and positions of the weights take in the file."""
        changes = self.structure_bytes + self.zeros_bytes + self.levels_bytes + self.coding_bytes
        return self.fp32_bytes + changes

    def against(self, fp32_bytes: int) -> SizeAccount:
        """The same file, compared with other fp32 weights: those of the net before any stage."""
        more = self.fp32_bytes - fp32_bytes
        return replace(self, fp32_bytes=fp32_bytes, structure_bytes=self.structure_bytes + more)


def account_sizes(
    path: str, sha256: str, file_bytes: int, weights: Iterable[StoredWeights], metadata_bytes: int
) -> SizeAccount:
    """The account of a file; what neither weights nor metadata take is the graph's."""
    rows = list(weights)
    elements, stored = sum(w.elements for w in rows), sum(w.stored for w in rows)
    dense = sum(-(-w.stored * w.bits // 8) for w in rows)
    used = sum(w.weight_bytes for w in rows)
    tables = sum(w.table_bytes for w in rows)
    return SizeAccount(
        path=path,
        sha256=sha256,
        file_bytes=file_bytes,
        fp32_bytes=_FLOAT_BYTES * elements,
        structure_bytes=0,
        zeros_bytes=_FLOAT_BYTES * (stored - elements),
        levels_bytes=dense - _FLOAT_BYTES * stored,
        coding_bytes=used - dense,
        codebook_bytes=tables,
        graph_bytes=file_bytes - used - tables - metadata_bytes,
        metadata_bytes=metadata_bytes,
    )
