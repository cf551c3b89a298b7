"""glibc's allocator, told to keep what a training step frees for the next step."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = (1 << 31) - 1
_GROW = 64 << 20


def keep_freed_memory() -> bool:
    """Make malloc reuse large blocks instead of returning them; False where there is no glibc.

    By default each activation of more than 128 KiB (at most 32 MiB) is mapped anew and its pages
    are zeroed again in each step: MobileNetV2's took up to 1.6 times as long so. The process
    keeps its peak of memory until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEEP), (_TOP_PAD, _GROW))
    return sum(mallopt(*setting) for setting in settings) == len(settings)
