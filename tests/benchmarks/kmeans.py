"""k-means of many weights, against scikit-learn's k-means++ and kmeans1d where installed.

    python tests/benchmarks/kmeans.py [--large]

One thread; peers take turns with ours, and times are CPU seconds (the least of three), which other
work on the machine disturbs less. --large adds 38 and 103 million weights, each in a process of its
own, with its peak memory against that of the input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is loaded

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress.kmeans import cluster  # noqa: E402
from tests.benchmarks.process import memory  # noqa: E402

ROUNDS = 3
SIZES = ((1_000_000, 32), (1_000_000, 256))
LARGE = ((38_000_000, 256), (103_000_000, 256))


def weights(size: int) -> np.ndarray:
    """Generalised Gaussian of shape 0.8, deviation about 0.02."""
    generator = np.random.default_rng(0)
    values = np.empty(size, np.float32)
    for start in range(0, size, 1 << 20):
        block = values[start : start + (1 << 20)]
        drawn = generator.standard_gamma(1.25, block.size, np.float32) ** 1.25
        block[:] = drawn * np.where(generator.random(block.size) < 0.5, -0.01, 0.01)
    return values


def ours(values: np.ndarray, k: int) -> float:
    return cluster(values, k).inertia


def linear(values: np.ndarray, k: int) -> float:
    return cluster(values, k, "linear").inertia


def sklearn_plus_plus(values: np.ndarray, k: int) -> float:
    from sklearn.cluster import KMeans

    library: Any = KMeans
    return float(library(k, n_init=1, random_state=0).fit(values[:, None]).inertia_)


def kmeans1d(values: np.ndarray, k: int) -> float:
    import kmeans1d as library  # pyright: ignore[reportMissingImports]

    found = library.cluster(values.astype(np.float64), k)
    centroids, places = np.array(found.centroids), np.array(found.clusters)
    return float(((values - centroids[places]) ** 2).sum())


PEERS = {
    "optimal": ours,
    "linear (the paper's)": linear,
    "scikit-learn, k-means++": sklearn_plus_plus,
    "kmeans1d": kmeans1d,
}
# Slower than the others by so much that it would take minutes at 256 clusters.
SMALL_ONLY = ("kmeans1d",)


def cpu_seconds(work: Callable[[], float]) -> tuple[float, float]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def compare(size: int, k: int) -> None:
    values = weights(size)
    ours(values[:1000], 4)
    times: dict[str, list[float]] = {}
    inertias: dict[str, float] = {}
    absent: list[str] = []
    for _ in range(ROUNDS):
        for name, peer in PEERS.items():
            if name in absent or (name in SMALL_ONLY and k > 32):
                continue
            try:
                seconds, inertias[name] = cpu_seconds(lambda peer=peer: peer(values, k))
                times.setdefault(name, []).append(seconds)
            except ImportError:
                absent.append(name)
    best = min(times["optimal"])
    for name, seconds in times.items():
        ratio, more = min(seconds) / best, inertias[name] / inertias["optimal"] - 1
        print(f"| {size:,} | {k} | {name} | {min(seconds):.3f} | {ratio:.1f} | {more:+.2e} |")
    for name in absent:
        print(f"| {size:,} | {k} | {name} | not installed | | |")


def measure_large(size: int, k: int) -> dict[str, float]:
    values = weights(size)
    ours(values[:1000], 4)
    before = memory("VmRSS") - values.nbytes
    seconds, _ = cpu_seconds(lambda: ours(values, k))
    return {"cpu_seconds": seconds, "peak_of_input": (memory("VmHWM") - before) / values.nbytes}


def large() -> None:
    print("\n| weights | clusters | CPU seconds | peak memory of the input, which counts |")
    print("|---|---|---|---|")
    for size, k in LARGE:
        command = [sys.executable, __file__, "--measure", str(size), str(k)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"| {size:,} | {k} | {found['cpu_seconds']:.2f} | {found['peak_of_input']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--measure", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure_large(*given.measure)))
        return
    print("| weights | clusters | method | CPU seconds | ratio | inertia above the optimal |")
    print("|---|---|---|---|---|---|")
    for size, k in SIZES:
        compare(size, k)
    if given.large:
        large()


if __name__ == "__main__":
    main()
