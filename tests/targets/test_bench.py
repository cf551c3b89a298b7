"""Benchmarks: interleaved processes, all raw times, honest failures; the ratio's interval."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from compress.errors import DeviceError, MissingExtraError
from compress.spec import TensorSpec
from targets.artifact import Artifact, file_sha256
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Ratio, Target, ratio, ratio_of_times
from tests.reports import make_measurement, sha, write_onnx
from tests.scripted_device import ANSWER, ScriptedDevice

QUICK = Plan(runs=5, rounds=2, warmup_s=0.05, max_s=0.2)


def measurement(*processes: Sequence[float]) -> Measurement:
    return make_measurement("a.onnx", *processes)


def test_real_files_on_this_machine(tmp_path: Path) -> None:
    small = write_onnx(tmp_path / "small.onnx", width=4, side=16)
    large = write_onnx(tmp_path / "large.onnx", width=64, side=96)
    container = tmp_path / "net.dc"
    container.write_bytes(b"not run")
    calls: list[tuple[int, int, str]] = []
    found = benchmark(
        [small, large, container],
        [Target(LocalDevice())],
        QUICK,
        progress=lambda *call: calls.append(call),
    )
    assert [m.file for m in found] == ["small.onnx", "large.onnx"]
    first, second = found
    assert first.sha256 == file_sha256(small)
    assert first.runs == QUICK.runs * QUICK.rounds
    assert len(first.times_ms) == QUICK.rounds
    assert first.median_ms < second.median_ms
    assert first.p10_ms <= first.median_ms <= first.p90_ms
    assert first.provenance == "measured"
    assert first.runtime == "onnxruntime"
    assert first.load_ms > 0
    assert calls[0] == (0, 4, "small.onnx")
    assert calls[-1] == (4, 4, "")


def test_files_take_turns(tmp_path: Path) -> None:
    files = [write_onnx(tmp_path / f"{n}.onnx") for n in "ab"]
    device = ScriptedDevice(ANSWER)
    found = benchmark(files, [Target(device)], replace(QUICK, rounds=3))
    assert device.seen == ["a.onnx", "b.onnx", "b.onnx", "a.onnx", "a.onnx", "b.onnx"]
    assert found[0].provenance == "emulated"
    assert found[0].median_ms == 2.0
    assert found[0].load_ms == 2.0


def test_what_changes_is_told_at_its_worst(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    hot = [{"clock_mhz": 900.0, "temperature_c": 81.5, "held_down": None}] * 2
    answer = {**ANSWER, "clocks": hot, "throttled": True, "times_ns": [1_000_000] * 9}
    (found,) = benchmark([net], [Target(ScriptedDevice(answer))], QUICK)
    assert found.environment["clock_mhz"] == 900.0
    assert found.environment["temperature_c"] == 81.5
    assert found.spread == 0
    assert found.throttled
    assert found.noisy
    idle = {**ANSWER, "environment": {"load_average": None}}
    (found,) = benchmark([net], [Target(ScriptedDevice(idle))], QUICK)
    assert found.environment["load_average"] is None


def test_an_answer_that_was_cut_short_is_none(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    answer = {name: value for name, value in ANSWER.items() if name != "end"}
    with pytest.raises(DeviceError, match="ended with status 0 and no result"):
        benchmark([net], [Target(ScriptedDevice(answer))], QUICK)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "net.onnx")
    spec = (TensorSpec("x", (1, 3, 16, 16)),)
    artifact = Artifact(path, "onnx", "fp32", file_sha256(path), 1, spec, spec, sha("c"))
    assert len(benchmark([artifact], [Target(ScriptedDevice(ANSWER))], QUICK)) == 1
    write_onnx(path, width=9)
    with pytest.raises(DeviceError, match="has changed since it was exported"):
        benchmark([artifact], [Target(ScriptedDevice(ANSWER))], QUICK)
    with pytest.raises(DeviceError, match="is not there to be measured"):
        benchmark([tmp_path / "no.onnx"], [Target(ScriptedDevice(ANSWER))], QUICK)


def test_a_runner_that_fails_names_file_and_device(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a net")
    with pytest.raises(DeviceError, match=r"^broken\.onnx cannot be measured on local: ") as caught:
        benchmark([broken], [Target(LocalDevice())], QUICK)
    assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match=r"^broken\.onnx cannot be measured on local\+plain: "):
        benchmark([broken], [Target(LocalDevice(), engine="plain")], QUICK)


@pytest.mark.parametrize(("opset", "ir_version", "kind"), [(18, 99, "IR versions"), (99, 9, "ops")])
def test_a_file_too_new_for_the_devices_runtime_is_told(
    opset: int, ir_version: int, kind: str, tmp_path: Path
) -> None:
    path = write_onnx(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.ir_version, model.opset_import[0].version = ir_version, opset
    onnx.save(model, path)
    told = (
        rf"^net\.onnx is of opset {opset}, IR version {ir_version}, and onnxruntime on local takes "
    )
    with pytest.raises(DeviceError, match=told + kind):
        benchmark([path], [Target(LocalDevice())], QUICK)


def without(folder: Path, *packages: str) -> LocalDevice:
    """A device whose Python cannot import `packages`: broken twins of them come first."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise ImportError('no such wheel')")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return LocalDevice(python=str(python))


def test_a_missing_runtime_is_named_with_the_pip_command(tmp_path: Path) -> None:
    device = without(tmp_path / "d", "ai_edge_litert", "tflite_runtime", "onnxruntime")
    lite = tmp_path / "net.tflite"
    lite.write_bytes(b"never opened")
    cases = {
        lite: ("ai_edge_litert", "run: pip install 'edgepress[litert]'"),
        write_onnx(tmp_path / "net.onnx"): ("onnxruntime", "run: pip install 'edgepress'"),
    }
    for file, (package, command) in cases.items():
        with pytest.raises(MissingExtraError) as caught:
            benchmark([file], [Target(device)], QUICK)
        line = str(caught.value)
        assert line.startswith(f"measuring {file.name} on local needs {package}, ")
        assert "no such wheel" in line
        assert line.endswith(command)
        assert "\n" not in line


def test_the_old_name_of_the_runtime_is_enough(tmp_path: Path) -> None:
    """Only both missing is missing: the answer of the second is an error of the file."""
    device = without(tmp_path / "d", "ai_edge_litert")
    old = tmp_path / "d" / "tflite_runtime"
    old.mkdir()
    (old / "__init__.py").write_text("")
    (old / "interpreter.py").write_text(
        "def Interpreter(model_path, num_threads):\n    raise ValueError('cannot be opened')\n"
    )
    lite = tmp_path / "net.tflite"
    lite.write_bytes(b"not a net")
    with pytest.raises(DeviceError, match="cannot be measured on local: ValueError: cannot be"):
        benchmark([lite], [Target(device)], QUICK)


def test_a_runner_that_dies_is_told_from_one_that_answers(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho some log\necho last words >&2\nexit 7\n")
    python.chmod(0o755)
    with pytest.raises(DeviceError, match="status 7 and no result; its last words: last words"):
        benchmark([net], [Target(LocalDevice(python=str(python)))], QUICK)


def test_a_runner_that_dies_after_its_answer_is_not_believed(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(ANSWER)}'\nkill -SEGV $$\n")
    python.chmod(0o755)
    with pytest.raises(DeviceError, match="ended with status -11 after its answer"):
        benchmark([net], [Target(LocalDevice(python=str(python)))], QUICK)


def test_noise_is_a_spread_above_a_tenth() -> None:
    quiet = measurement([1.0, 1.01, 1.02, 1.03], [1.0, 1.01, 1.02, 1.03])
    loud = measurement([1.0, 1.0, 1.3, 1.3], [1.0, 1.0, 1.3, 1.3])
    assert not quiet.noisy
    assert loud.noisy
    assert loud.spread == pytest.approx(0.3 / 1.15)


def test_ratio_of_a_file_with_itself_is_one() -> None:
    a = measurement([1.0, 1.1], [2.0, 2.1], [3.0, 3.1])
    same = ratio(a, a)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)


def test_pairs_cancel_the_drift_of_the_machine() -> None:
    """B takes twice A's time in every round while the machine slows down fourfold."""
    drift = (1.0, 2.0, 3.0, 4.0)
    a = measurement(*([d, d] for d in drift))
    b = measurement(*([2 * d, 2 * d] for d in drift))
    found = ratio(a, b)
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))
    unpaired = ratio(a, measurement(*([2 * d] for d in drift[:3])))
    assert unpaired.low < 0.5 < unpaired.value < unpaired.high


def test_the_interval_of_three_pairs_by_hand() -> None:
    """t(0.975, 2) = 4.302653; logs of the ratios 0, 1, 2: deviation 1, so 1 / 3 is the variance."""
    a = [[np.exp(k)] for k in (0.0, 1.0, 2.0)]
    found = ratio_of_times(a, [[1.0]] * 3)
    half = 4.302653 * np.sqrt(np.pi / 2) * np.sqrt(2 / 3)
    assert np.log((found.low, found.value, found.high)) == pytest.approx((1 - half, 1.0, 1 + half))


def noise(generator: np.random.Generator, kind: str, rounds: int) -> NDArray[np.float64]:
    if kind == "normal":
        return np.exp(generator.normal(0, 0.03, rounds))
    spikes = generator.random(rounds) < 0.2
    quiet = generator.normal(0, 0.01, rounds)
    return np.exp(np.where(spikes, generator.exponential(0.3, rounds), quiet))


@pytest.mark.parametrize("kind", ["normal", "spikes"])
@pytest.mark.parametrize("rounds", [3, 5, 10])
def test_a_repeated_bench_falls_into_the_interval_as_often_as_it_says(
    kind: str, rounds: int
) -> None:
    """The drift is the machine's, and so both files'; the noise is each process's own."""
    generator = np.random.default_rng(rounds)
    within = 0
    for _ in range(200):
        found: list[Ratio] = []
        for _ in range(2):
            drift = np.exp(generator.normal(0, 0.05, rounds))
            times = [level * drift * noise(generator, kind, rounds) for level in (0.7, 1.0)]
            found.append(ratio_of_times(*([[t] for t in own] for own in times)))
        within += found[0].low <= found[1].value <= found[0].high
    assert within >= 184
