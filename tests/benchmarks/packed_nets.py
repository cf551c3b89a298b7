"""The nets of packed_files.py: made here, or unpacked from a container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from targets.runtimes.onnxruntime import OnnxRuntime
from tests.benchmarks.large_nets import SHAPE

DENSITY = 1 / 3
PICTURES = 3


@dataclass(frozen=True)
class Case:
    """One net: its plain file, its packed ones by profile, and its container, if there is one."""

    name: str
    plain: Path
    packed: Mapping[str, Path]
    container: Path | None = None


def own_nets(folder: Path, weights: Path | None) -> Iterator[Case]:
    """The two SqueezeNets of the issue's table."""
    from compress.candidate import Candidate
    from compress.checkpoint import read_weights
    from compress.models.squeezenet import squeezenet1_0_spec
    from compress.models.squeezenet_caffe import from_caffe, squeezenet1_1_caffe_spec

    spec = squeezenet1_0_spec()
    yield made("SqueezeNet 1.0, drawn weights", drawn(Candidate.untrained(spec, 0)), 8, folder)
    spec = squeezenet1_1_caffe_spec()
    if weights is None:
        name, start = "SqueezeNet 1.1, drawn weights", drawn(Candidate.untrained(spec, 0))
    else:
        state = read_weights(weights)
        state = from_caffe(state) if "conv1.weight" in state else state
        name, start = "SqueezeNet 1.1", Candidate.load(spec, state)
    yield made(name, start, 4, folder)


def drawn(candidate: Any) -> Any:
    """Weights as trained layers have them: generalised Gaussian, deviation sqrt(2 / fan in)."""
    generator = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for name, array in candidate.network.parameters().items():
        if array.ndim > 1:
            sizes = generator.standard_gamma(1 / SHAPE, array.shape) ** (1 / SHAPE)
            sizes *= generator.choice((-1, 1), array.shape)
            deviation = (2 * len(array) / array.size) ** 0.5
            values[name] = (sizes * deviation / sizes.std()).astype(np.float32)
        else:
            values[name] = generator.normal(0, 0.1, array.shape).astype(np.float32)
    return candidate.with_values(values, {})


def made(name: str, start: Any, bits: int, folder: Path) -> Case:
    """Prune to DENSITY, share in so many bits, write the container and what it unpacks to."""
    from compress.stage import run
    from compress.stages.prune_magnitude import PruneMagnitude
    from compress.stages.share_weights import ShareWeights
    from compress.task import Task
    from targets.formats.deep_compression import DeepCompressionExporter

    stages = (PruneMagnitude(1 - DENSITY), ShareWeights(bits))
    net = run(start, stages, Task(evaluate=lambda _: {}, fingerprint="none"))
    container = folder / f"{start.spec.name}.dc"
    DeepCompressionExporter(graph=True)(net, container)
    return unpacked(container, folder, f"{name}, {DENSITY:.0%} of weights, {bits} bits")


def unpacked(container: Path, folder: Path, name: str = "") -> Case:
    """A container's plain file and its packed ones, in both profiles."""
    from targets.formats.dc_unpack import unpack_onnx, unpack_packed
    from targets.formats.onnx_pack import PROFILES

    plain = folder / f"{container.stem}.onnx"
    unpack_onnx(container, plain)
    packed = {profile: folder / f"{container.stem}.{profile}.onnx" for profile in PROFILES}
    for profile, path in packed.items():
        unpack_packed(container, path, profile)  # type: ignore[arg-type]
    return Case(name or container.stem, plain, packed, container)


def check_bits(case: Case) -> None:
    """SystemExit where a packed file computes other bits than the plain one."""
    plain = OnnxRuntime().load(case.plain)
    generator = np.random.default_rng(0)
    batch = generator.normal(size=(PICTURES, *plain.inputs[0].shape[1:])).astype(np.float32)
    expected = plain.predict(batch)
    for profile, path in case.packed.items():
        if OnnxRuntime().load(path).predict(batch).tobytes() != expected.tobytes():
            raise SystemExit(f"{case.name}, {profile}: {path} computes other bits than the plain")
