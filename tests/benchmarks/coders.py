"""The coders against peers: bytes against Shannon's bound, symbols a second.

    python tests/benchmarks/coders.py [--weights FILE.safetensors] [--symbols N]

One thread; coders take turns, and times are CPU seconds (the least of three), which other work on
the machine disturbs less. Peers (zstandard, constriction, bitarray, nncodec) are used where they
are installed and named where not. --weights codes a net's convolutions instead: magnitude-pruned
and clustered, or rounded to per-channel integers, and prints bytes alone; its Shannon bound is
each tensor's order-0 entropy, without any table.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is loaded

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress.coding import compiled, huffman  # noqa: E402
from compress.coding.codes import pack_codes, unpack_codes  # noqa: E402
from compress.kmeans import cluster  # noqa: E402

ROUNDS = 3
ALPHABET = 64
# A peer that is far slower codes a part of the symbols.
PART = 1_000_000


class Coder(NamedTuple):
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any, int], Any]
    size: Callable[[Any], int] = len
    slow: bool = False


def huffman_coder() -> Coder:
    return Coder(
        lambda symbols: huffman.pack(symbols, ALPHABET),
        lambda data, count: huffman.unpack(data, count, ALPHABET),
    )


def codes_coder() -> Coder:
    return Coder(
        lambda symbols: pack_codes(symbols, ALPHABET),
        lambda data, count: unpack_codes(data, (count,), ALPHABET),
    )


def by_arrays(coder: Coder) -> Coder:
    """The same without the compiled loops."""

    def without(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            usual, compiled.worth_it = compiled.worth_it, lambda count: count < 0
            try:
                return work(*arguments)
            finally:
                compiled.worth_it = usual

        return run

    return coder._replace(encode=without(coder.encode), decode=without(coder.decode))


def zstd_coder() -> Coder:
    import zstandard  # pyright: ignore[reportMissingImports]

    return Coder(
        lambda symbols: zstandard.ZstdCompressor(level=1).compress(symbols.tobytes()),
        lambda data, _: np.frombuffer(zstandard.ZstdDecompressor().decompress(data), np.uint8),
    )


def constriction_coder() -> Coder:
    import constriction  # pyright: ignore[reportMissingImports]

    stream = constriction.stream

    def encode(symbols: np.ndarray) -> tuple[Any, Any]:
        shares = np.bincount(symbols, minlength=ALPHABET) / symbols.size
        model = stream.model.Categorical(shares.astype(np.float32), perfect=False)
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(symbols.astype(np.int32), model)
        return model, coder.get_compressed()

    return Coder(
        encode,
        lambda data, count: stream.stack.AnsCoder(data[1]).decode(data[0], count),
        lambda data: data[1].nbytes,
    )


def bitarray_coder() -> Coder:
    from bitarray import bitarray  # pyright: ignore[reportMissingImports]
    from bitarray.util import (  # pyright: ignore[reportMissingImports]
        canonical_decode,
        canonical_huffman,
    )

    def encode(symbols: np.ndarray) -> tuple[Any, Any, Any]:
        counts = np.bincount(symbols, minlength=ALPHABET)
        words, lengths, order = canonical_huffman(
            {symbol: int(count) for symbol, count in enumerate(counts) if count}
        )
        bits = bitarray()
        bits.encode(words, symbols.tolist())
        return bits, lengths, order

    return Coder(
        encode,
        lambda data, _: list(canonical_decode(*data)),
        lambda data: (len(data[0]) + 7) // 8,
        slow=True,
    )


def nncodec_coder() -> Coder:
    from nncodec.extensions import deepCABAC  # pyright: ignore[reportMissingImports]

    def decode(data: Any, count: int) -> Any:
        symbols = np.zeros((1, count), np.int32)
        decoder = deepCABAC.Decoder()
        decoder.setStream(data)
        decoder.initCtxModels(10)
        decoder.decodeLayer(symbols, 0, 0, 0, 0, *hdsp_off(), 0, 0)
        return symbols[0] + ALPHABET // 2

    return Coder(
        lambda symbols: cabac(symbols[None].astype(np.int32) - ALPHABET // 2, 0, 10),
        decode,
        slow=True,
    )


def hdsp_off() -> tuple[Any, ...]:
    from nncodec.nnc_core.hdsp.hdsp_tool import (  # pyright: ignore[reportMissingImports]
        HDSP_OPTS_OFF,
    )

    return HDSP_OPTS_OFF()


def cabac(ranks: np.ndarray, scan: int, unary: int) -> Any:
    """DeepCABAC's payload of signed ranks, (rows, ...), int32."""
    from nncodec.extensions import deepCABAC  # pyright: ignore[reportMissingImports]

    encoder = deepCABAC.Encoder()
    encoder.initCtxModels(unary, 1)
    skipped = np.zeros(len(ranks), np.int32)
    ranks = np.ascontiguousarray(ranks)
    encoder.encodeLayer(ranks, 0, scan, 0, 0, 0, skipped, *hdsp_off(), 0, 0)
    return encoder.finish()


CODERS: dict[str, Callable[[], Coder]] = {
    "huffman": huffman_coder,
    "huffman, arrays": lambda: by_arrays(huffman_coder()),
    "codes": codes_coder,
    "codes, arrays": lambda: by_arrays(codes_coder()),
    "zstandard, level 1": zstd_coder,
    "constriction, ANS": constriction_coder,
    "bitarray, canonical": bitarray_coder,
    "nncodec, DeepCABAC": nncodec_coder,
}


def entropy_bytes(symbols: np.ndarray) -> float:
    shares = np.bincount(symbols.reshape(-1)) / symbols.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum()) * symbols.size / 8


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def compare(count: int) -> None:
    draws = np.random.default_rng(0).standard_normal(count) * 5.9 + 32
    symbols = np.clip(np.rint(draws), 0, ALPHABET - 1).astype(np.uint8)
    coders: dict[str, Coder] = {}
    for name, make in CODERS.items():
        try:
            coders[name] = make()
            warm = coders[name].encode(symbols[:100_000])
            coders[name].decode(warm, min(count, 100_000))
        except ImportError:
            print(f"{name}: not installed")
    found: dict[str, tuple[list[float], list[float], float]] = {
        name: ([], [], 0.0) for name in coders
    }
    for _ in range(ROUNDS):
        for name, coder in coders.items():
            part = symbols[:PART] if coder.slow else symbols
            encoding, data = seconds(lambda c=coder, p=part: c.encode(p))
            decoding, back = seconds(lambda c=coder, d=data, p=part: c.decode(d, p.size))
            assert np.array_equal(back, part), name
            encoded, decoded, _ = found[name]
            encoded.append(encoding / part.size)
            decoded.append(decoding / part.size)
            found[name] = encoded, decoded, coder.size(data) / entropy_bytes(part)
    print(f"\n{count:,} symbols, {8 * entropy_bytes(symbols) / count:.3f} bits of entropy each")
    print("| coder | of Shannon | encode, M/s | decode, M/s |")
    print("|---|---|---|---|")
    for name, (encoded, decoded, ratio) in found.items():
        speeds = f"{1e-6 / min(encoded):.0f} | {1e-6 / min(decoded):.0f}"
        print(f"| {name} | {ratio:.4f} | {speeds} |")


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


def best_cabac(codes: np.ndarray, codebook: np.ndarray) -> int:
    """The least of DeepCABAC's scan orders and unary lengths."""
    below = int((codebook < 0).sum())
    signed = codes.astype(np.int32)
    ranks = np.where(signed == 0, 0, np.where(signed <= below, signed - below - 1, signed - below))
    ranks = ranks.astype(np.int32)
    return min(len(cabac(ranks, scan, unary)) for scan in (0, 1, 2) for unary in (10, 16))


def tensors(path: Path) -> Iterator[np.ndarray]:
    from safetensors.numpy import load_file

    for _, array in sorted(load_file(path).items()):
        if array.ndim == 4:
            yield array.astype(np.float32)


def compare_weights(path: Path) -> None:
    try:
        hdsp_off()
        peer = best_cabac
    except ImportError:
        print("nncodec: not installed")
        peer = None
    print("| weights | Shannon | huffman | codes | DeepCABAC | codes of DeepCABAC |")
    print("|---|---|---|---|---|---|")
    for way, make in WAYS.items():
        sizes = np.zeros(4)
        for weights in tensors(path):
            codes, codebook = make(weights)
            data = pack_codes(codes, codebook.size, codebook)
            assert np.array_equal(unpack_codes(data, codes.shape, codebook.size), codes)
            words = len(huffman.pack(codes.reshape(-1), codebook.size))
            other = peer(codes, codebook) if peer else 0
            sizes += [entropy_bytes(codes), words, len(data), other]
        cells = " | ".join(f"{size:,.0f}" for size in sizes)
        ratio = f"{sizes[2] / sizes[3]:.4f}" if sizes[3] else ""
        print(f"| {way} | {cells} | {ratio} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--symbols", type=int, default=10_000_000)
    given = parser.parse_args()
    if given.weights:
        compare_weights(given.weights)
    else:
        compare(given.symbols)


if __name__ == "__main__":
    main()
