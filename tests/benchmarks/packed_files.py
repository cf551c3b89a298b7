"""Packed .onnx files against the plain ones: bytes, latency, load time, memory at load.

    python tests/benchmarks/packed_files.py [--weights FILE] [--json FILE] [--rounds N]
    python tests/benchmarks/packed_files.py NET.dc ...
    python tests/benchmarks/packed_files.py --pair PLAIN.onnx PACKED.onnx

Without files it makes its own: SqueezeNet 1.0 at 33 % density with codebooks of 8 bits, whose
weights are drawn, and SqueezeNet 1.1 at two thirds of zeros with 16 clusters, whose weights are in
FILE (a .safetensors or .pth, by Caffe's names or ours) or drawn too. A container is unpacked, plain
and packed. All files take turns, a process each time, on one thread; what a packed file computes
must be the plain one's bits.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress.atomic import write_bytes
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Target, ratio
from targets.runtimes.onnxruntime import OnnxRuntime
from targets.sizing.downloads import zip_bytes
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


@dataclass(frozen=True)
class Line:
    """A packed file against its plain one. Download: zip -9. Memory: above what was there before.

    Times are medians; `latency` is packed / plain, with its 95 % interval.
    """

    net: str
    profile: str
    plain_bytes: int
    packed_bytes: int
    plain_download_bytes: int
    packed_download_bytes: int
    container_bytes: int | None
    container_download_bytes: int | None
    plain_ms: float
    packed_ms: float
    latency: tuple[float, float, float]
    plain_load_ms: float
    packed_load_ms: float
    plain_peak_bytes: int
    packed_peak_bytes: int
    plain_loaded_bytes: int
    packed_loaded_bytes: int
    noisy: bool


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


def measured(cases: list[Case], plan: Plan) -> list[Line]:
    """All files in turn, so that what the machine does meanwhile falls on all alike."""
    files = [path for case in cases for path in (case.plain, *case.packed.values())]
    progress = lambda done, total, _: print(f"\r{done}/{total}", end="", file=sys.stderr)  # noqa: E731
    found = dict(zip(files, benchmark(files, [Target(LocalDevice())], plan, progress), strict=True))
    print(file=sys.stderr)
    return [
        line(case, profile, found[case.plain], found[path])
        for case in cases
        for profile, path in case.packed.items()
    ]


def line(case: Case, profile: str, plain: Measurement, packed: Measurement) -> Line:
    path, container = case.packed[profile], case.container
    latency = ratio(packed, plain)
    return Line(
        net=case.name,
        profile=profile,
        plain_bytes=case.plain.stat().st_size,
        packed_bytes=path.stat().st_size,
        plain_download_bytes=zip_bytes(case.plain.read_bytes()),
        packed_download_bytes=zip_bytes(path.read_bytes()),
        container_bytes=container.stat().st_size if container else None,
        container_download_bytes=zip_bytes(container.read_bytes()) if container else None,
        plain_ms=plain.median_ms,
        packed_ms=packed.median_ms,
        latency=(latency.value, latency.low, latency.high),
        plain_load_ms=plain.load_ms,
        packed_load_ms=packed.load_ms,
        plain_peak_bytes=above_base(plain, plain.peak_rss_load_bytes),
        packed_peak_bytes=above_base(packed, packed.peak_rss_load_bytes),
        plain_loaded_bytes=above_base(plain, plain.rss_load_bytes),
        packed_loaded_bytes=above_base(packed, packed.rss_load_bytes),
        noisy=plain.noisy or packed.noisy,
    )


def above_base(measurement: Measurement, found: int | None) -> int:
    base = measurement.rss_base_bytes
    if found is None or base is None:
        raise SystemExit("memory is known on Linux only; run this there")
    return found - base


def table(lines: list[Line]) -> str:
    head = (
        *("net", "profile", "bytes", "of plain", "of .dc", "download of .dc's"),
        *("latency, of plain", "load, ms", "of plain", "peak at load, of plain"),
        *("after load, of plain", "noisy"),
    )
    rows = [head, ("---",) * len(head), *map(cells, lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(line: Line) -> tuple[str, ...]:
    value, low, high = line.latency
    return (
        line.net,
        line.profile,
        f"{line.packed_bytes:,}",
        f"{line.packed_bytes / line.plain_bytes:.4f}",
        _of(line.packed_bytes, line.container_bytes),
        _of(line.packed_download_bytes, line.container_download_bytes),
        f"{value:.3f} ({low:.3f}-{high:.3f})",
        f"{line.packed_load_ms:.1f}",
        f"{line.packed_load_ms / line.plain_load_ms:.2f}",
        f"{line.packed_peak_bytes / line.plain_peak_bytes:.2f}",
        f"{line.packed_loaded_bytes / line.plain_loaded_bytes:.2f}",
        "yes" if line.noisy else "no",
    )


def _of(size: int, whole: int | None) -> str:
    return "" if whole is None else f"{size / whole:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("containers", nargs="*", type=Path, metavar="NET.dc")
    parser.add_argument(
        "--pair", nargs=2, type=Path, action="append", default=[], metavar=("PLAIN", "PACKED")
    )
    parser.add_argument("--weights", type=Path, help="of SqueezeNet 1.1")
    parser.add_argument("--rounds", type=int, default=15, help="processes for each file")
    parser.add_argument("--json", type=Path, help="write every figure there, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [Case(packed.name, plain, {"": packed}) for plain, packed in given.pair]
        cases += [unpacked(container, folder) for container in given.containers]
        cases = cases or list(own_nets(folder, given.weights))
        for case in cases:
            check_bits(case)
        lines = measured(cases, Plan(rounds=given.rounds, runs=300, max_s=0.7))
    if given.json:
        text = json.dumps([asdict(line) for line in lines], indent=1) + "\n"
        write_bytes(given.json, text.encode())
    print(table(lines))


if __name__ == "__main__":
    main()
