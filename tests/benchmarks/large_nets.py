"""AlexNet and VGG-16 through the whole chain: prune, share by optimal k-means, encode, decode.

    python tests/benchmarks/large_nets.py [alexnet] [vgg16] [--graph]

Weights are synthetic (generalised Gaussian, shape 0.8), sparsities and bits those of Han, Mao and
Dally 2016, tables 4 and 5. Each measurement is a process of its own: memory is the peak of its
resident set above what its imports took, so that the net itself counts too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from tests.benchmarks.process import memory

SHAPE = 0.8  # of the generalised Gaussian: 1 is Laplace, trained layers lie about there
# Fraction of weights kept, layer by layer: tables 4 and 5 of the paper.
CONV = {
    "alexnet": ((0, 0.84), (3, 0.38), (6, 0.35), (8, 0.37), (10, 0.37)),
    "vgg16": (
        *((0, 0.58), (2, 0.22), (5, 0.34), (7, 0.36), (10, 0.53), (12, 0.24), (14, 0.42)),
        *((17, 0.32), (19, 0.27), (21, 0.34), (24, 0.35), (26, 0.29), (28, 0.36)),
    ),
}
LINEAR = {
    "alexnet": ((1, 0.09), (4, 0.09), (6, 0.25)),
    "vgg16": ((0, 0.04), (3, 0.04), (6, 0.23)),
}
BITS = (("features.*", 8), ("classifier.*", 5))


def spec_of(net: str) -> Any:
    from compress.models.alexnet import alexnet_spec
    from compress.models.vgg import vgg16_spec

    return {"alexnet": alexnet_spec, "vgg16": vgg16_spec}[net]()


def write_net(net: str, path: Path) -> None:
    """Synthetic weights of standard deviation sqrt(2 / fan in), biases zero."""
    import torch
    from safetensors.numpy import save_file

    with torch.device("meta"):
        state = spec_of(net).build().state_dict()
    generator = np.random.default_rng(0)
    arrays = {name: np.zeros(tuple(t.shape), np.float32) for name, t in state.items()}
    for array in arrays.values():
        if array.ndim > 1:
            flat = array.reshape(-1)
            deviation = (2 / (flat.size / array.shape[0])) ** 0.5
            for start in range(0, flat.size, 1 << 20):
                block = flat[start : start + (1 << 20)]
                drawn = generator.standard_gamma(1 / SHAPE, block.size, np.float32)
                sign = np.where(generator.random(block.size, np.float32) < 0.5, -1, 1)
                block[:] = sign * drawn ** (1 / SHAPE)
            flat *= deviation / flat.std()
    save_file(arrays, path)


def encode(net: str, folder: Path, graph: bool) -> Callable[[], None]:
    """Weights file to container."""
    from compress.candidate import Candidate
    from compress.stage import run
    from compress.stages.prune_magnitude import PruneMagnitude
    from compress.stages.share_weights import ShareWeights
    from compress.task import Task
    from targets.formats.deep_compression import DeepCompressionExporter

    kept = {
        **{f"features.{place}": share for place, share in CONV[net]},
        **{f"classifier.{place}": share for place, share in LINEAR[net]},
    }
    sparsity = tuple((name, round(1 - share, 2)) for name, share in kept.items())
    stages = (PruneMagnitude(sparsity), ShareWeights(BITS))
    task = Task(evaluate=lambda _: {}, fingerprint="none")
    spec = spec_of(net)

    def work() -> None:
        done = run(Candidate.load(spec, folder / f"{net}.safetensors"), stages, task)
        DeepCompressionExporter(graph=graph)(done, folder / f"{net}.dc")

    return work


def load(net: str, folder: Path, graph: bool) -> Callable[[], None]:
    """Container to checked candidate."""
    from targets.formats.deep_compression import load as load_container

    del graph
    return lambda: keep(load_container(folder / f"{net}.dc"))


def decode(net: str, folder: Path, graph: bool) -> Callable[[], None]:
    """Container to arrays, without torch."""
    from targets.formats.dc_envelope import read_state

    del graph
    return lambda: keep(read_state(folder / f"{net}.dc"))


MEASURED = {"encode": encode, "load": load, "decode": decode}
_kept: list[object] = []


def keep(result: object) -> None:
    """Results stay alive, as they would in use."""
    _kept.append(result)


def measure(net: str, what: str, folder: Path, graph: bool) -> dict[str, float]:
    """Run one measurement in this process."""
    work = MEASURED[what](net, folder, graph)
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": memory("VmHWM") - before,
    }


def in_subprocess(net: str, what: str, folder: Path, graph: bool) -> dict[str, float]:
    command = [sys.executable, __file__, net, "--measure", what, "--folder", str(folder)]
    done = subprocess.run(
        [*command, *(["--graph"] if graph else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{net} {what} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def table(nets: list[str], graph: bool) -> None:
    print(
        "| net | step | seconds | CPU seconds | peak memory, MB | of the fp32 net | file, bytes |"
    )
    print("|---|---|---|---|---|---|---|")
    for net in nets:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_net(net, folder / f"{net}.safetensors")
            size = (folder / f"{net}.safetensors").stat().st_size
            for what in MEASURED:
                found = in_subprocess(net, what, folder, graph)
                peak = found["peak_bytes"]
                print(
                    f"| {net} | {what} | {found['seconds']:.2f} | {found['cpu_seconds']:.2f} | "
                    f"{peak / 1e6:.0f} | {peak / size:.2f} | "
                    f"{(folder / f'{net}.dc').stat().st_size:,} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=list(CONV), metavar="net")
    parser.add_argument("--graph", action="store_true", help="carry the .onnx's skeleton, too")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.nets[0], given.measure, given.folder, given.graph)))
    else:
        table(given.nets or list(CONV), given.graph)


if __name__ == "__main__":
    main()
