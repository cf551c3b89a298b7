"""The coders against peers: bytes against Shannon's bound, symbols a second.

    python tests/benchmarks/coders.py [--weights FILE] [--symbols N]

One thread; coders take turns, and times are CPU seconds (the least of three), which other work on
the machine disturbs less. Peers (zstandard, constriction, bitarray, nncodec) are used where they
are installed and named where not. --weights (a .safetensors file, or a .pth file where torch is
installed) codes a net's weights instead, and prints bytes alone: net_weights.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is loaded

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress.coding import compiled, huffman  # noqa: E402
from compress.coding.codes import pack_codes, unpack_codes  # noqa: E402
from tests.benchmarks.net_weights import (  # noqa: E402
    cabac,
    compare_weights,
    entropy_bytes,
    hdsp_off,
)

ROUNDS = 3
ALPHABET = 64
# A peer that is far slower codes a part of the symbols.
PART = 1_000_000


class Coder(NamedTuple):
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any, int], Any]
    size: Callable[[Any], int] = len
    slow: bool = False


def huffman_coder(planes: bool = False) -> Coder:
    return Coder(
        lambda symbols: huffman.pack(symbols, ALPHABET, planes),
        lambda data, count: huffman.unpack(data, count, ALPHABET, planes),
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


CODERS: dict[str, Callable[[], Coder]] = {
    "huffman": huffman_coder,
    "huffman, arrays": lambda: by_arrays(huffman_coder()),
    "huffman in planes": lambda: huffman_coder(True),
    "huffman in planes, arrays": lambda: by_arrays(huffman_coder(True)),
    "codes": codes_coder,
    "codes, arrays": lambda: by_arrays(codes_coder()),
    "zstandard, level 1": zstd_coder,
    "constriction, ANS": constriction_coder,
    "bitarray, canonical": bitarray_coder,
    "nncodec, DeepCABAC": nncodec_coder,
}


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
