"""int8 files against those of other tools: the same weights, calibration pictures and machine.

    python tests/benchmarks/int8_peers.py NET --weights FILE --data PICTURES --test PICTURES \
        --out FOLDER [--python-of TOOL=PYTHON ...] [--calibrate N] [--rounds N] [--ours STAGE,...]
        [--only TOOL ...]

NET: squeezenet, mobilenet_v2 (ImageNet) or resnet20 (CIFAR-10). Of the unlabelled pictures in
--data every second one calibrates (at most --calibrate), the others compare the answers with the
float net's. Those in --test are labelled and only score the finished files. Each tool runs in its
own interpreter, ours unless --python-of names another or EDGEPRESS_PYTHON_OF_<TOOL> does; one that
fails is named with its reason. What a folder holds already is not made again: delete
FOLDER/NET/TOOL.json to have a tool run anew. Writes FOLDER/NET.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # from a checkout, installed or not

from compress.atomic import write_bytes
from compress.candidate import Candidate
from compress.checkpoint import read_weights, save_candidate
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.resnet_cifar import resnet20_spec
from compress.models.squeezenet_caffe import from_caffe, squeezenet1_1_caffe_spec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.task import Task
from recipes.pictures.opening import open_pictures
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import Chosen, Pictures, need_labels
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.measurement import Measurement, Plan, Target, ratio
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.benchmarks.int8_tools import TOOLS

NETS: dict[str, Callable[[Path], Candidate]] = {
    "squeezenet": lambda path: Candidate.load(
        squeezenet1_1_caffe_spec(), from_caffe(read_weights(path))
    ),
    "mobilenet_v2": lambda path: Candidate.load(mobilenet_v2_spec(), path),
    "resnet20": lambda path: Candidate.load(resnet20_spec(), path),
}
RUNTIMES = {".onnx": OnnxRuntime(), ".tflite": LiteRtRuntime()}
# Of minutes: a tool that hangs must not take the others with it.
TOOL_TIMEOUT_S = 420
AT_ONCE = 25


@dataclass(frozen=True)
class Answers:
    """A file's answers against the float net's, and against the labels. `lost`: right before,
    wrong now; `won` the other way round. sqnr_db: None where nothing differs."""

    agreement: float
    sqnr_db: float | None
    top1: float
    lost: int
    won: int


@dataclass(frozen=True)
class Line:
    """One tool's file. speedup: the float file's time over its own, same runtime, and interval.

    seconds: to make the file; quantize_seconds: of these without writing it, where that is known.
    """

    tool: str
    version: str
    seconds: float | None
    quantize_seconds: float | None
    file_bytes: int
    of_float: float
    answers: Answers
    ms: float
    speedup: tuple[float, float, float]
    noisy: bool


def prepare(folder: Path, net: str, given: argparse.Namespace) -> None:
    """What all tools start from, and the pictures that judge them; made once."""
    ready, wanted = folder / "ready", f"{given.calibrate} of {given.data}, {given.test}"
    if ready.exists():
        if ready.read_text() != wanted:
            raise SystemExit(f"{folder} holds {ready.read_text()}; give another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    dense = NETS[net](given.weights)
    task = Task(evaluate=lambda _: {}, fingerprint="peers", seed=0)
    folded = FoldBatchNorm()(dense, task).candidate
    save_candidate(folded, folder / "folded.safetensors")
    OnnxExporter()(folded, folder / "fp32.onnx")
    TFLiteExporter()(folded, folder / "fp32.tflite")
    spec = dense.spec
    data = open_pictures(given.data, spec.classes)
    halves = [range(start, len(data), 2)[: given.calibrate] for start in (0, 1)]
    pixels = [_pixels(dense, Chosen(data, half)) for half in halves]
    np.save(folder / "calibration.npy", spec.preprocess.normalise(pixels[0]))
    np.save(folder / "comparing.npy", pixels[1])
    labelled = open_pictures(given.test, spec.classes)
    np.save(folder / "testing.npy", _pixels(dense, labelled))
    np.save(folder / "labels.npy", need_labels(labelled, f"--test {given.test}"))
    ready.write_text(wanted)


def _pixels(dense: Candidate, pictures: Pictures) -> np.ndarray:
    *_, height, width = dense.spec.input_shape
    return Prepared(pictures, dense.spec.preprocess, (height, width))[:]


def made(folder: Path, name: str, python: str) -> str:
    """Run a tool unless its file is there; '' or the reason why there is none."""
    report = folder / f"{name}.json"
    if report.exists():
        return str(json.loads(report.read_text()).get("reason", ""))
    script = Path(__file__).with_name("int8_tools.py")
    command = [python, str(script), name, str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_S
        )
        reason = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["died"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"took more than {TOOL_TIMEOUT_S} s"
    except OSError as error:
        reason = str(error)
    if reason:
        write_bytes(report, json.dumps({"tool": name, "reason": reason}).encode())
    return reason


def answers(folder: Path, net: Candidate, path: Path, float_path: Path) -> Answers:
    """Of one file; the float file's own are kept beside it."""
    mine, theirs = (_logits(folder, net, p) for p in (path, float_path))
    labels = np.load(folder / "labels.npy")
    (compared, tested), (reference, before) = mine, theirs
    noise = float(np.mean((compared.astype(np.float64) - reference) ** 2))
    power = float(np.mean(reference.astype(np.float64) ** 2))
    right, was = tested.argmax(1) == labels, before.argmax(1) == labels
    return Answers(
        agreement=float((compared.argmax(1) == reference.argmax(1)).mean()),
        sqnr_db=float(10 * np.log10(power / noise)) if noise else None,
        top1=float(right.mean()),
        lost=int((was & ~right).sum()),
        won=int((right & ~was).sum()),
    )


def _logits(folder: Path, net: Candidate, path: Path) -> list[np.ndarray]:
    """Its outputs for the comparing and the testing pictures, kept in a file beside it."""
    kept = path.with_suffix(f"{path.suffix}.npz")
    if not kept.exists():
        session = RUNTIMES[path.suffix].load(path)
        found: dict[str, np.ndarray] = {}
        for part in ("comparing", "testing"):
            pixels = np.load(folder / f"{part}.npy")
            starts = range(0, len(pixels), AT_ONCE)
            blocks = (net.spec.preprocess.normalise(pixels[i : i + AT_ONCE]) for i in starts)
            whole = np.concatenate([session.predict(block) for block in blocks])
            found[part] = whole.reshape(len(pixels), -1)
        np.savez(kept, allow_pickle=False, **found)
    with np.load(kept) as file:
        return [file["comparing"], file["testing"]]


def measured(paths: Sequence[Path], rounds: int) -> dict[Path, Measurement]:
    """All files in turn, a process each time, on one thread."""
    plan = Plan(rounds=rounds, runs=200, max_s=0.4, warmup_s=0.5)
    progress = lambda done, total, _: print(f"\r{done}/{total}", end="", file=sys.stderr)  # noqa: E731
    found = benchmark(paths, [Target(LocalDevice())], plan, progress)
    print(file=sys.stderr)
    return dict(zip(paths, found, strict=True))


def lines(folder: Path, net: Candidate, names: Sequence[str], rounds: int) -> list[Line]:
    """A line for each tool whose file is there, and for the float files."""
    told = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    floats = {suffix: folder / f"fp32{suffix}" for suffix in RUNTIMES}
    files = {f"fp32 {suffix[1:]}": path for suffix, path in floats.items()}
    files |= {name: folder / known["file"] for name, known in told.items()}
    times = measured([*files.values()], rounds)
    found: list[Line] = []
    for name, path in files.items():
        base = floats[path.suffix]
        faster = ratio(times[base], times[path])
        known = told.get(name, {})
        size = path.stat().st_size
        line = Line(
            tool=name,
            version=known.get("version", ""),
            seconds=known.get("seconds"),
            quantize_seconds=known.get("quantize_seconds"),
            file_bytes=size,
            of_float=size / base.stat().st_size,
            answers=answers(folder, net, path, base),
            ms=times[path].median_ms,
            speedup=(faster.value, faster.low, faster.high),
            noisy=times[path].noisy or times[base].noisy,
        )
        found.append(line)
    return found


def table(net: str, found: Sequence[Line], missing: dict[str, str], folder: Path) -> str:
    pictures = {p: len(np.load(folder / f"{p}.npy", mmap_mode="r")) for p in _PARTS}
    head = (
        *("tool", "bytes", "of fp32", "agreement", "SQNR, dB", "top-1", "lost / won"),
        *("latency, ms", "speed-up (95 %)", "seconds", "noisy"),
    )
    rows = [head, ("---",) * len(head), *map(_cells, found)]
    text = [f"{net}: " + ", ".join(f"{count} {part}" for part, count in pictures.items()), ""]
    text += [f"| {' | '.join(row)} |" for row in rows]
    text += ["", *(f"{name}: no file, {reason}" for name, reason in missing.items())]
    return "\n".join(text).rstrip() + "\n"


_PARTS = ("calibration", "comparing", "testing")


def _cells(line: Line) -> tuple[str, ...]:
    value, low, high = line.speedup
    same = line.answers
    return (
        f"{line.tool} ({line.version.rsplit(' ', 1)[-1]})" if " " in line.version else line.tool,
        f"{line.file_bytes:,}",
        f"{line.of_float:.4f}",
        f"{same.agreement:.1%}",
        "equal" if same.sqnr_db is None else f"{same.sqnr_db:.1f}",
        f"{same.top1:.1%}",
        f"{same.lost} / {same.won}",
        f"{line.ms:.3f}",
        f"{value:.2f} ({low:.2f}-{high:.2f})",
        _seconds(line),
        "yes" if line.noisy else "no",
    )


def _seconds(line: Line) -> str:
    if line.seconds is None:
        return ""
    whole = f"{line.seconds:.1f}"
    return whole if line.quantize_seconds is None else f"{line.quantize_seconds:.1f} of {whole}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("net", choices=sorted(NETS))
    for option in ("weights", "data", "test", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--python-of", action="append", default=[], metavar="TOOL=PYTHON")
    parser.add_argument("--calibrate", type=int, default=300, help="pictures, at most")
    parser.add_argument(
        "--ours", default="repaired,minmax", help="stages: repaired, distilled, mse, minmax"
    )
    parser.add_argument("--only", action="append", default=[], metavar="TOOL")
    parser.add_argument("--rounds", type=int, default=7, help="processes for each file")
    given = parser.parse_args()
    forms = [f"edgepress-{o}-{f}" for o in given.ours.split(",") for f in ("onnx", "tflite")]
    names = [name for name in (*forms, *TOOLS) if not given.only or name in given.only]
    pythons = dict(entry.split("=", 1) for entry in given.python_of)
    folder = given.out / given.net
    prepare(folder, given.net, given)
    missing: dict[str, str] = {}
    for name in names:
        print(name, file=sys.stderr)
        variable = f"EDGEPRESS_PYTHON_OF_{name.upper().replace('-', '_')}"
        reason = made(folder, name, pythons.get(name, os.environ.get(variable, sys.executable)))
        if reason:
            missing[name] = reason
    there = [name for name in names if name not in missing]
    found = lines(folder, NETS[given.net](given.weights), there, given.rounds)
    report = {"lines": [asdict(line) for line in found], "missing": missing}
    write_bytes(given.out / f"{given.net}.json", (json.dumps(report, indent=1) + "\n").encode())
    text = table(given.net, found, missing, folder)
    write_bytes(given.out / f"{given.net}.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
