"""Truncated decomposition of 4096 x 9216 at rank 256, against scipy's gesdd.

    python tests/benchmarks/lowrank.py [--rows M] [--columns N] [--rank R]

One thread, CPU seconds. Three matrices: of noise, whose singular values hardly fall, which is the
worst case of a method that finds only the leading ones; of values that fall as 1 / sqrt(i); and one
of rank 512 with a little noise. `all`: by the Gram matrix and all its eigenvectors, as at large
ranks. Errors are relative Frobenius norms; they must agree to four digits, else it ends with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is loaded

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress import lowrank  # noqa: E402


def matrices(rows: int, columns: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((rows, columns), np.float32)
    falling = noise * (np.arange(1, rows + 1, dtype=np.float32) ** -0.5)[:, None]
    inner = min(512, rows, columns)
    thin = generator.standard_normal((rows, inner), np.float32)
    low = thin @ generator.standard_normal((inner, columns), np.float32)
    return {"noise": noise, "falling": falling, "rank 512 and noise": low + noise}


def gesdd(weight: np.ndarray, rank: int) -> float:
    values = scipy.linalg.svd(weight, full_matrices=False, lapack_driver="gesdd")[1]
    squares = values.astype(np.float64) ** 2
    return float(np.sqrt(squares[rank:].sum() / squares.sum()))


def ours(weight: np.ndarray, rank: int) -> float:
    return lowrank.truncate(weight, rank).error


def everything(weight: np.ndarray, rank: int) -> float:
    with mock.patch.object(lowrank, "_LARGE", 1 << 60):
        return lowrank.truncate(weight, rank).error


def cpu_seconds(work: Callable[[], float]) -> tuple[float, float]:
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=9216)
    parser.add_argument("--rank", type=int, default=256)
    options = parser.parse_args()
    print("| matrix | way | CPU seconds | gesdd's over it | error | against gesdd's |")
    print("|---|---|---|---|---|---|")
    worst = 0.0
    for title, weight in matrices(options.rows, options.columns).items():
        slow, least = cpu_seconds(lambda w=weight: gesdd(w, options.rank))
        print(f"| {title} | scipy, gesdd | {slow:.2f} | 1.0 | {least:.6f} | |", flush=True)
        for name, way in (("all", everything), ("ours", ours)):
            seconds, error = cpu_seconds(lambda w=weight, f=way: f(w, options.rank))
            worst = max(worst, abs(error / least - 1))
            ratio = f"{slow / seconds:.1f} | {error:.6f} | {error / least - 1:+.1e}"
            print(f"| {title} | {name} | {seconds:.2f} | {ratio} |", flush=True)
    return int(worst > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
