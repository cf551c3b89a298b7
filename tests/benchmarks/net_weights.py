"""A net's weights through our coders and DeepCABAC: the part of coders.py behind --weights.

Both get the same codes and the same codebook. Ours is the whole stream of pack_codes, header
included; DeepCABAC's is the payload of a tensor alone, the shortest of its settings, tensor by
tensor: what says which settings were taken, and the codebooks of both, are in neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compress.coding import huffman
from compress.coding.codes import pack_codes, unpack_codes
from compress.kmeans import cluster

# Of nncodec: rows, or blocks of 8, 16, 32 and 64; greater-than flags of a code (10: its default);
# NNC's first and second edition, of which the second knows the codebook's size and skips rows.
SCANS = (0, 1, 2, 3, 4)
FLAGS = (1, 2, 5, 10, 16, 24, 32)
EDITIONS = (0, 1)


def compare_weights(path: Path) -> None:
    """Print the table of bytes of the file's convolutions and matrices."""
    peer: Callable[[np.ndarray, np.ndarray], int] | None = best_cabac
    try:
        hdsp_off()
    except ImportError:
        print("nncodec: not installed")
        peer = None
    found = list(weights_of(path))
    print(f"{path.name}: {sum(map(np.size, found)):,} weights in {len(found)} tensors, bytes")
    print("| weights | Shannon | huffman | codes | DeepCABAC | codes of DeepCABAC |")
    print("|---|---|---|---|---|---|")
    for way, make in WAYS.items():
        sizes = np.zeros(4)
        for weights in found:
            codes, codebook = make(weights)
            data = pack_codes(codes, codebook.size, codebook)
            assert np.array_equal(unpack_codes(data, codes.shape, codebook.size), codes)
            words = len(huffman.pack(codes.reshape(-1), codebook.size))
            other = peer(codes, codebook) if peer else 0
            sizes += [entropy_bytes(codes), words, len(data), other]
        cells = " | ".join(f"{size:,.0f}" for size in sizes[:3])
        last = f"{sizes[3]:,.0f} | {sizes[2] / sizes[3]:.4f}" if peer else "not installed |"
        print(f"| {way} | {cells} | {last} |", flush=True)


def weights_of(path: Path) -> Iterator[np.ndarray]:
    """float32 tensors of two axes and more of a .safetensors or .pth file, by name."""
    arrays: dict[str, Any]
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        arrays = load_file(path)
    else:
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for _, array in sorted(arrays.items()):
        if array.ndim > 1:
            yield array.astype(np.float32)


def clustered(weights: np.ndarray, bits: int, sparsity: float) -> tuple[np.ndarray, np.ndarray]:
    """(codes, codebook): the smallest weights pruned, the others' optimal centroids."""
    sizes = np.abs(weights)
    kept = sizes > np.quantile(sizes, sparsity)
    clusters = cluster(weights[kept], min((1 << bits) - 1, int(kept.sum())))
    codes = np.zeros(weights.shape, np.uint16)
    codes[kept] = clusters.assignments + 1
    return codes, np.concatenate([[0], clusters.centroids])


def rounded(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes, codebook): integers, a scale for each output channel."""
    most = (1 << bits - 1) - 1
    scale = np.abs(weights).reshape(len(weights), -1).max(axis=1) / most + 1e-12
    grid = np.rint(weights / scale.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int64)
    codes = np.where(grid < 0, grid + most + 1, np.where(grid > 0, grid + most, 0))
    return codes.astype(np.uint16), np.r_[0, -most:0, 1 : most + 1]


WAYS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "6 bits, 33 % zeros": lambda weights: clustered(weights, 6, 0.33),
    "5 bits, 67 % zeros": lambda weights: clustered(weights, 5, 0.67),
    "4 bits, 67 % zeros": lambda weights: clustered(weights, 4, 0.67),
    "int8 by channel": lambda weights: rounded(weights, 8),
    "int5 by channel": lambda weights: rounded(weights, 5),
}


def entropy_bytes(symbols: np.ndarray) -> float:
    """Shannon's bound of order zero, without any table."""
    shares = np.bincount(symbols.reshape(-1)) / symbols.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum()) * symbols.size / 8


def best_cabac(codes: np.ndarray, codebook: np.ndarray) -> int:
    """Bytes of DeepCABAC's shortest payload; every setting in turn, the others at their best."""
    below = int((codebook < 0).sum())
    signed = codes.astype(np.int32)
    ranks = np.where(signed == 0, 0, np.where(signed <= below, signed - below - 1, signed - below))
    ranks = ranks.astype(np.int32)
    book = codebook.size, below

    def size(edition: int, scan: int, flags: int) -> int:
        return len(cabac(ranks, scan, flags, book if edition else None))

    tried = {way: size(*way) for way in itertools.product(EDITIONS, SCANS, (10,))}
    edition, scan, _ = min(tried, key=tried.__getitem__)
    return min(*tried.values(), *(size(edition, scan, flags) for flags in FLAGS))


def cabac(
    ranks: np.ndarray, scan: int, flags: int, book: tuple[int, int] | None = None
) -> np.ndarray:
    """DeepCABAC's payload of signed ranks, (rows, ...), int32.

    book: (size, place of zero) for the second edition, which skips rows of zeros where there are
    some; None for the first.
    """
    from nncodec.extensions import deepCABAC  # pyright: ignore[reportMissingImports]

    encoder = deepCABAC.Encoder()
    encoder.initCtxModels(flags, 1)  # 1: the start of each context is fitted and written
    empty = (~ranks.reshape(len(ranks), -1).any(axis=1)).astype(np.int32)
    skip = int(book is not None and empty.any())
    edition = int(book is not None)
    encoder.encodeLayer(
        np.ascontiguousarray(ranks),
        0,
        scan,
        edition,
        0,
        skip,
        empty,
        *hdsp_off(),
        *(book or (0, 0)),
    )
    return encoder.finish()


def hdsp_off() -> tuple[Any, ...]:
    """nncodec's options for coding a tensor without an earlier version of it."""
    from nncodec.extensions import deepCABAC  # pyright: ignore[reportMissingImports]

    return deepCABAC.HdspMode.AlwaysOff, np.zeros(2, np.int8)
