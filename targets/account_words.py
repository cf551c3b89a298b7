"""The words of a container's account: the columns of Deep Compression's tables, for every page."""

from __future__ import annotations

from collections.abc import Iterator

from targets.account import Account, FileAccount
from targets.words import MISSING

ACCOUNT_COLUMNS = (
    "Layer",
    "Weights",
    "Weights % (P)",
    "Weight bits (P+Q)",
    "Weight bits (P+Q+H)",
    "Index bits (P+Q)",
    "Index bits (P+Q+H)",
    "Rate (P+Q)",
    "Rate (P+Q+H)",
    "Bytes",
)
ACCOUNT_NOTE = (
    "As in tables 2 to 5 of Deep Compression: P pruned, Q shared, H coded. P and P+Q are counted "
    "with gaps of the best width from 1 to 8 bits, or without gaps where that is smaller (0 bits); "
    "P+Q+H is what the file takes. Bits are those of a kept weight; 'with' means that one stream "
    "holds weights and positions. Rates are to 32 bits a weight."
)


def account_rows(account: FileAccount) -> Iterator[tuple[str, ...]]:
    """A row for each tensor, one for what belongs to none, and the total: the file's own bytes."""
    yield from (_row(tensor) for tensor in account.tensors)
    blank = (MISSING,) * (len(ACCOUNT_COLUMNS) - 2)
    yield ("container itself", *blank, f"{account.overhead_bytes:,}")
    rows = account.tensors
    weights, kept = sum(row.weights for row in rows), sum(row.kept for row in rows)
    shared = sum(row.shared_bytes for row in rows)
    yield (
        "total",
        f"{weights:,}",
        _share(kept, weights),
        *(MISSING,) * 4,
        _rate(shared, weights),
        _rate(account.file_bytes, weights),
        f"{account.file_bytes:,}",
    )


def account_summary(account: FileAccount) -> str:
    """'P 10.5x, P+Q 29.8x, P+Q+H 46.1x: 37,361 bytes'; P and P+Q without the container itself."""
    rows = account.tensors
    fp32 = 4 * sum(row.weights for row in rows)
    sizes = {
        "P": sum(row.pruned_bytes for row in rows),
        "P+Q": sum(row.shared_bytes for row in rows),
        "P+Q+H": account.file_bytes,
    }
    factors = ", ".join(f"{name} {fp32 / size:.1f}x" for name, size in sizes.items() if size)
    return f"{factors}: {account.file_bytes:,} bytes"


def _row(tensor: Account) -> tuple[str, ...]:
    joined = tensor.coded_index_bits is None and tensor.coding != "plain"
    index = MISSING if tensor.coded_index_bits is None else f"{tensor.coded_index_bits:.2f}"
    return (
        tensor.name,
        f"{tensor.weights:,}",
        _share(tensor.kept, tensor.weights),
        str(tensor.weight_bits),
        MISSING if tensor.coded_weight_bits is None else f"{tensor.coded_weight_bits:.2f}",
        str(tensor.index_bits),
        "with" if joined and tensor.kept else index,
        _rate(tensor.shared_bytes, tensor.weights),
        _rate(tensor.coded_bytes, tensor.weights),
        f"{tensor.coded_bytes:,}",
    )


def _share(kept: int, weights: int) -> str:
    return f"{100 * kept / weights:.1f} %" if weights else MISSING


def _rate(size: int, weights: int) -> str:
    """As the paper: '2.32 %', and how many times smaller that is."""
    if not weights or not size:
        return MISSING
    return f"{25 * size / weights:.2f} % ({4 * weights / size:.1f}x)"
