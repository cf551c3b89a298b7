"""A container made ready as an onnxruntime session, against loading the fp32 .onnx.

    python tests/benchmarks/session_load.py [squeezenet1_1] [mobilenet_v2] [alexnet]

One thread; all take turns, and times are CPU seconds (the least of seven). Each pair of rows is a
process of its own: by numpy alone, and with numba, whose loops were compiled by a first decoding.
The container is the default one, as small as can be, and the one that is quick to decode. Weights
are synthetic, two thirds of them pruned, codebooks of 5 bits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

ROUNDS = 7
CONTAINERS = ("small", "quick")
NETS = ("squeezenet1_1", "mobilenet_v2", "alexnet")


def write_files(net: str, folder: Path) -> None:
    """fp32.onnx, small.dc and quick.dc, of the same shapes."""
    from compress.candidate import Candidate
    from compress.models.alexnet import alexnet_spec
    from compress.models.mobilenet_v2 import mobilenet_v2_spec
    from compress.models.squeezenet import squeezenet1_1_spec
    from compress.stage import run
    from compress.stages.fold_batchnorm import FoldBatchNorm
    from compress.stages.prune_magnitude import PruneMagnitude
    from compress.stages.share_weights import ShareWeights
    from compress.task import Task
    from targets.formats.deep_compression import DeepCompressionExporter
    from targets.formats.onnx import OnnxExporter

    known = {
        "squeezenet1_1": squeezenet1_1_spec,
        "mobilenet_v2": mobilenet_v2_spec,
        "alexnet": alexnet_spec,
    }
    task = Task(evaluate=lambda _: {}, fingerprint="none")
    start = Candidate.untrained(known[net](), 0)
    generator = np.random.default_rng(0)
    weights = {
        name: (0.02 * generator.laplace(size=array.shape)).astype(np.float32)
        for name, array in start.network.parameters().items()
        if array.ndim > 1
    }
    dense = run(start.with_values(weights, {}), [FoldBatchNorm()], task)
    OnnxExporter()(dense, folder / "fp32.onnx")
    small = run(dense, [PruneMagnitude(0.66), ShareWeights(5)], task)
    for name in CONTAINERS:
        quick = name == "quick"
        DeepCompressionExporter(graph=True, quick=quick)(small, folder / f"{name}.dc")


def measure(folder: Path) -> dict[str, float]:
    """Least CPU seconds of all, taken in turns."""
    import onnxruntime

    from targets.formats.dc_skeleton import onnx_bytes

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def session(model: str | bytes) -> None:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    ways: dict[str, Callable[[], object]] = {"onnx": lambda: session(str(folder / "fp32.onnx"))}
    for name in CONTAINERS:
        path = folder / f"{name}.dc"
        ways[f"decode {name}"] = lambda path=path: onnx_bytes(path)
        ways[name] = lambda path=path: session(onnx_bytes(path))
    least = dict.fromkeys(ways, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            if turn:  # the first warms up
                least[name] = min(least[name], time.process_time() - begun)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", metavar="net")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--by", choices=("numpy", "numba"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write_files(given.write[0], Path(given.write[1]))
    elif given.measure:
        if given.by == "numpy":
            sys.modules["numba"] = None  # type: ignore[assignment] # as if it were not installed
        print(json.dumps(measure(given.measure)))
    else:
        table(given.nets or NETS[:2])


def table(nets: tuple[str, ...] | list[str]) -> None:
    print(
        "| net | by | container | bytes | fp32 .onnx, ms | session, ms | of it decoding | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for net in nets:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, "--write", net, folder], check=True)
            for by in ("numpy", "numba"):
                command = [sys.executable, __file__, "--measure", folder, "--by", by]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True, env=environment
                )
                found = json.loads(done.stdout.splitlines()[-1])
                for name in CONTAINERS:
                    times = (found["onnx"], found[name], found[f"decode {name}"])
                    plain, ready, decode = (1000 * seconds for seconds in times)
                    size = (Path(folder) / f"{name}.dc").stat().st_size
                    print(
                        f"| {net} | {by} | {name} | {size:,} | {plain:.1f} | {ready:.1f} | "
                        f"{decode:.1f} | {ready / plain:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
