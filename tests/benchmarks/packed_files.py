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
import ctypes
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress.atomic import write_bytes
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Target, ratio
from targets.onboard.engine import find
from targets.sizing.downloads import zip_bytes
from tests.benchmarks.packed_nets import Case, check_bits, own_nets, unpacked
from tests.benchmarks.process import memory


@dataclass(frozen=True)
class Line:
    """A packed file against its plain one. Download: zip -9. Memory: above what was there before.

    Times are medians; `latency` is packed / plain, with its 95 % interval. Loaded: resident with
    the session ready. Held: the same when the C library has given back what it keeps of freed
    memory, that is what the session itself needs.
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
    plain_held_bytes: int
    packed_held_bytes: int
    noisy: bool


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
        plain_held_bytes=held_bytes(case.plain),
        packed_held_bytes=held_bytes(path),
        noisy=plain.noisy or packed.noisy,
    )


def above_base(measurement: Measurement, found: int | None) -> int:
    base = measurement.rss_base_bytes
    if found is None or base is None:
        raise SystemExit("memory is known on Linux only; run this there")
    return found - base


def held_bytes(path: Path) -> int:
    """By a process of its own, which `hold` runs in."""
    command = [sys.executable, __file__, "--hold", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def hold(path: Path) -> int:
    """Bytes resident for a loaded session, freed memory given back (Linux with glibc)."""
    engine = find("net.onnx", "cpu")  # imported before, as in the measurements
    give_back = ctypes.CDLL("libc.so.6").malloc_trim
    before = memory("VmRSS")
    session = engine.load(str(path), 1)
    give_back(0)
    held = memory("VmRSS") - before
    assert session.get_inputs()
    return held


def table(lines: list[Line]) -> str:
    head = (
        *("net", "profile", "bytes", "of plain", "of .dc", "download of .dc's"),
        *("latency, of plain", "load, ms", "of plain", "peak at load, of plain"),
        *("after load, of plain", "held, of plain", "noisy"),
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
        f"{line.packed_held_bytes / line.plain_held_bytes:.2f}",
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
    parser.add_argument("--hold", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hold:
        print(hold(given.hold))
        return
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
