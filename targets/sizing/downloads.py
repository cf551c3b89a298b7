"""What a file takes on its way to a phone: in a zip, and by brotli and zstd as over the air."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

BROTLI_QUALITY = 11
ZSTD_LEVEL = 19
# brotli at its best takes about two seconds for a megabyte, zstd one: of the plain files beside the
# small ones their zip is enough.
MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class Downloads:
    """Bytes of a file in transit. `reasons`: why one of the last two is None, by field.

    zip_bytes: deflated at level 9, as an .apk holds it, without zip's headers; brotli_bytes: at
    quality 11; zstd_bytes: at level 19.
    """

    zip_bytes: int
    brotli_bytes: int | None
    zstd_bytes: int | None
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])


def zip_bytes(data: bytes) -> int:
    """Size in a zip at level 9, as in an .apk: raw deflate, without zip's headers."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(packer.compress(data)) + len(packer.flush())


def downloads(data: bytes, most: int = MOST_BYTES) -> Downloads:
    """All three; brotli and zstd only of at most `most` bytes, and where they are installed."""
    reasons: dict[str, str] = {}

    def tried(name: str, module: str, size: Callable[[ModuleType], int]) -> int | None:
        if len(data) > most:
            reasons[name] = f"not compressed: the file has more than {most:,} bytes"
            return None
        try:
            found = importlib.import_module(module)
        except ImportError:
            reasons[name] = f"{module} is not installed; run: pip install {module}"
            return None
        return size(found)

    return Downloads(
        zip_bytes=zip_bytes(data),
        brotli_bytes=tried(
            "brotli_bytes", "brotli", lambda m: len(m.compress(data, quality=BROTLI_QUALITY))
        ),
        zstd_bytes=tried(
            "zstd_bytes",
            "zstandard",
            lambda m: len(m.ZstdCompressor(level=ZSTD_LEVEL).compress(data)),
        ),
        reasons=reasons,
    )
