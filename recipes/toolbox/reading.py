"""Pictures for training: from an array, or read as they are needed, a batch ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recipes.datasets import PictureBlocks

Job = TypeVar("Job")
Done = TypeVar("Done")


def is_held(pixels: PictureBlocks) -> bool:
    """True for pictures in memory, which take no time to get."""
    return isinstance(pixels, np.ndarray)


class Reader:
    """Gets pictures by their numbers with several threads: decoding a file lets others run."""

    def __init__(self, pixels: PictureBlocks, threads: int) -> None:
        self._pixels = pixels
        self._pool = None if is_held(pixels) else ThreadPoolExecutor(threads)
        self._threads = threads

    def __call__(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, H, W[, C]); whatever the source raises for one that cannot be read."""
        if self._pool is None:
            return self._pixels[numbers]
        parts = np.array_split(numbers, min(self._threads, len(numbers)))
        return np.concatenate(list(self._pool.map(self._pixels.__getitem__, parts)))

    def close(self) -> None:
        """Wait for what is being read; nothing can be read after it."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def one_ahead(work: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
    """work(job) for each job, in order; the next one is worked on while this one is used."""
    waiting: Future[Done] | None = None
    with ThreadPoolExecutor(1) as pool:
        for job in jobs:
            following = pool.submit(work, job)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
