"""Where a container's bytes are, in the terms of Deep Compression (arXiv:1510.00149, tables 2-5).

P: what pruning alone would take, 32 bits a kept weight and a gap. P+Q: codes instead of floats.
P+Q+H: what the file takes. The first two are counted, not written: gaps of the one width from 1 to
8 bits that makes the tensor smallest, fillers included, or no gaps where storing every weight is
smaller; codebook and scales as they are in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.gaps import entries_by_width
from compress.encoding import Encoded, Encoding, Masked
from targets.account import Account, FileAccount
from targets.formats.dc_envelope import Container, read_container
from targets.formats.dc_tensor import TensorBytes

_FLOAT_BITS = 32


def account_file(path: Path) -> FileAccount:
    """The account of a container, every tensor decoded. Raises ContainerError for damage."""
    container = read_container(path)
    accounts = [
        account_tensor(name, array, encoding, measured)
        for (name, array, encoding), (_, measured) in zip(
            container.decode(), container.measure(), strict=True
        )
    ]
    return file_account(container, path, accounts)


def file_account(
    container: Container, path: Path, accounts: Iterable[Account | None]
) -> FileAccount:
    """The account of a whole file from those of its coded tensors; None for the others."""
    rows = list(accounts)
    coded = tuple(row for row in rows if row is not None)
    others = [r for r, row in zip(container.records, rows, strict=True) if row is None]
    if others:
        weights = sum(record.size for record in others)
        plain = sum(record.size * record.dtype.itemsize for record in others)
        size = sum(record.payload_bytes for record in others)
        name = f"{len(others)} others, uncoded"
        bits = 8 * size / weights if weights else None
        coded += (Account(name, "plain", weights, weights, 32, 0, bits, None, plain, plain, size),)
    data = path.read_bytes()
    overhead = len(data) - sum(row.coded_bytes for row in coded)
    sha256 = hashlib.sha256(data).hexdigest()
    return FileAccount(path.name, sha256, len(data), overhead, coded)


def account_tensor(
    name: str, array: NDArray[Any], encoding: Encoding | None, measured: TensorBytes
) -> Account | None:
    """The account of a pruned or encoded tensor; None of any other."""
    if encoding is None or measured.codes is None:
        return None
    kept = int(np.count_nonzero(array))
    bits = encoding.bits if isinstance(encoding, Encoded) else _FLOAT_BITS
    codes = encoding.mask if isinstance(encoding, Masked) else encoding.indices
    entries = entries_by_width(codes.reshape(-1).astype(np.uint16, copy=False))
    books = _table_bytes(encoding)
    pruned, _ = _cheapest(entries, array.size, _FLOAT_BITS)
    shared, width = _cheapest(entries, array.size, bits)
    weight_bits, index_bits = _coded_bits(encoding, measured, kept)
    return Account(
        name=name,
        coding=measured.codes.coding,
        weights=array.size,
        kept=kept,
        weight_bits=bits,
        index_bits=width,
        coded_weight_bits=weight_bits,
        coded_index_bits=index_bits,
        pruned_bytes=pruned,
        shared_bytes=shared + books,
        coded_bytes=measured.value_bytes + measured.codes.total_bytes,
    )


def _cheapest(entries: list[int], size: int, bits: int) -> tuple[int, int]:
    """(bytes, gap width) of `bits` a weight with gaps of 1 to 8 bits; width 0: every weight."""
    dense = [(size * bits, 0)]
    sparse = [(entries[width] * (bits + width), width) for width in range(1, len(entries))]
    most, width = min(dense + sparse)
    return (most + 7) // 8, width


def _table_bytes(encoding: Encoding) -> int:
    if isinstance(encoding, Masked):
        return 0
    scales = 0 if encoding.axis is None else encoding.scale.nbytes
    return encoding.codebook.nbytes + scales


def _coded_bits(
    encoding: Encoding, measured: TensorBytes, kept: int
) -> tuple[float | None, float | None]:
    """(bits of the codes, bits of the positions) a kept weight, as Account has them."""
    codes = measured.codes
    assert codes is not None
    if kept == 0:
        return None, None
    if isinstance(encoding, Masked):  # codes are positions, values the weights
        positions = codes.code_bytes + (codes.gap_bytes or 0)
        return 8 * measured.value_bytes / kept, 8 * positions / kept
    index = None if codes.gap_bytes is None else 8 * codes.gap_bytes / kept
    return 8 * codes.code_bytes / kept, index
