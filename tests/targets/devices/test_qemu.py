"""The emulated ARM device: known counts, right outputs, the kernels that each CPU is given."""

from __future__ import annotations

import base64
import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import DeviceError
from targets.agreement import outputs_against
from targets.devices.qemu.device import QemuDevice
from targets.devices.qemu.profiles import PROFILES
from targets.measurement import Target
from targets.runner_file import runner_file
from tests.targets.devices.arm_userland import ANSWERS, FOLDER, TIMEOUT_S, emulated, guest
from tests.targets.devices.arm_words import LOOP, PIECES, Piece

CPUS = tuple(PROFILES)
SEVEN = ("load", "store", "branch", "int", "simd", "sve", "other")
FILES = sorted(FOLDER.glob("*.onnx")) + sorted(FOLDER.glob("*.tflite"))
COUNTED = (FOLDER / "residual-int8.onnx", FOLDER / "residual-int8.tflite")
MULTIPLYING = ("fmla", "sdot", "udot", "usdot", "smmla", "ummla", "usmmla", "mlal", "bf16")
# onnxruntime multiplies unsigned activations, LiteRT signed ones.
KERNELS = {
    "cortex-a53": {".onnx": {"mlal"}, ".tflite": {"mlal"}},
    "cortex-a72": {".onnx": {"mlal"}, ".tflite": {"mlal"}},
    "cortex-a76": {".onnx": {"udot"}, ".tflite": {"sdot"}},
    "i8mm": {".onnx": {"ummla"}, ".tflite": {"smmla"}},
}
# The second mark: four instructions that set it up and the system call.
MARK = {"insns": 5, "int": 4, "other": 1}


def has(cpu: str, piece: Piece) -> bool:
    """Whether the emulated CPU has the instruction; a53 and a72 have the same."""
    return CPUS.index(cpu) >= CPUS.index(piece.since)


def expected(piece: Piece) -> dict[str, int]:
    total = sum(piece.adds.get(name, 0) for name in SEVEN)
    adds = {"insns": total, **piece.adds}
    return {name: adds.get(name, 0) + MARK.get(name, 0) for name in {**adds, **MARK}}


@functools.cache
def asked(cpu: str) -> dict[str, Any]:
    """All that is asked of an emulated CPU, in one process."""
    device = emulated(cpu)
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            np.save(Path(folder) / f"{file.name}.npy", stored()[f"{file.name} inputs"])
        return guest(
            device,
            {
                "pieces": [piece.words for piece in PIECES if has(cpu, piece)],
                "files": [(str(file), f"{folder}/{file.name}.npy") for file in FILES],
                "counted": [str(file) for file in COUNTED],
            },
        )


@functools.cache
def stored() -> dict[str, NDArray[Any]]:
    with np.load(ANSWERS) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("cpu", CPUS)
def test_known_instructions_are_counted_exactly(cpu: str) -> None:
    """Every one of a list, each by itself; and 3,000,007 of a loop of three."""
    known = [piece for piece in PIECES if has(cpu, piece)]
    counts = asked(cpu)["pieces"]
    assert counts[known.index(LOOP)]["insns"] == 3_000_007
    found = {p.name: {k: n for k, n in c.items() if n} for p, c in zip(known, counts, strict=True)}
    assert found == {piece.name: expected(piece) for piece in known}


def test_an_instruction_that_the_cpu_lacks_ends_the_program() -> None:
    dot = next(piece for piece in PIECES if "sdot" in piece.adds)
    device = emulated("cortex-a53")
    with pytest.raises(AssertionError, match=r"-4, .*Illegal instruction"):
        guest(device, {"pieces": [dot.words]})


def test_other_threads_are_not_counted() -> None:
    """Nor do their marks end what this one began."""
    found = guest(emulated("cortex-a76"), {"beside": LOOP.words})["beside"]
    assert found["insns"] == 3_000_007


@pytest.mark.parametrize("cpu", CPUS)
def test_outputs_are_the_stored_ones(cpu: str) -> None:
    """int8 bit for bit, fp32 within 1e-5, onnxruntime and LiteRT."""
    assert len(FILES) == 8
    for file, packed in zip(FILES, asked(cpu)["outputs"], strict=True):
        found = np.load(io.BytesIO(base64.b64decode(packed)), allow_pickle=False)
        right = stored()[f"{file.name} outputs"]
        assert found.dtype == right.dtype
        if "-int8" in file.name:
            np.testing.assert_array_equal(found, right, file.name)
        else:
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-5, err_msg=file.name)


@pytest.mark.parametrize("cpu", CPUS)
def test_int8_is_computed_by_the_kernels_of_the_cpu(cpu: str) -> None:
    """Proved by what is executed: the multiplications of an int8 file, in each runtime."""
    for file, answer in zip(COUNTED, asked(cpu)["measured"], strict=True):
        assert answer["times_ns"] == []
        assert answer["environment"]["machine"] == "aarch64"
        assert len(answer["counts"]) >= 5
        for count in answer["counts"]:
            assert sum(count[name] for name in SEVEN) == count["insns"]
            # Some accumulations of a classifier's few channels apart.
            used = {name for name in MULTIPLYING if count[name] > 0.01 * count["insns"]}
            assert used == KERNELS[cpu][file.suffix], file.name


def test_counts_are_the_same_in_another_process() -> None:
    """Within 0.1 %, the fewest of the calls of each; by the runner, as a bench runs it."""
    device = emulated("cortex-a76")
    request = json.dumps({"path": device.push(COUNTED[-1])})
    fewest: list[int] = []
    for _ in range(2):
        done = device.run([device.python, device.push(runner_file()), request], TIMEOUT_S)
        answer = json.loads(done.stdout.splitlines()[-1])
        assert answer["end"] == "edgepress"
        fewest.append(min(count["insns"] for count in answer["counts"]))
    assert abs(fewest[0] - fewest[1]) <= 0.001 * fewest[0]


def test_outputs_are_compared_with_this_machines() -> None:
    """fp32 here: the int8 of an old x86 is not exact."""
    pictures = stored()["residual-fp32.tflite inputs"].transpose(0, 3, 1, 2)
    file = FOLDER / "residual-fp32.tflite"
    found = outputs_against(file, Target(emulated("cortex-a53")), pictures, timeout_s=TIMEOUT_S)
    assert (found.target, found.pictures, found.top1) == ("qemu:cortex-a53", len(pictures), 1.0)
    assert found.largest <= 1e-5 * found.range


def test_the_deadline_holds() -> None:
    device = emulated("cortex-a76")
    with pytest.raises(DeviceError, match=r"ran longer than 1 s on qemu:cortex-a76 and was stop"):
        device.run([device.python, "-c", "while True: pass"], 1)


def test_the_device_says_what_it_is() -> None:
    device = emulated("cortex-a53")
    shown = device.describe()
    assert (device.name, device.provenance) == ("qemu:cortex-a53", "emulated")
    assert shown["machine"] == "aarch64"
    assert str(shown["emulator"]).startswith("qemu-user ")
    with pytest.raises(DeviceError, match="another file in the userland"):
        device.push(Path("/proc/cpuinfo"))


def test_an_unknown_cpu_is_one_line() -> None:
    with pytest.raises(DeviceError, match=r"^no emulated CPU 'cortex-m4'; there are: cortex-a53, "):
        QemuDevice("cortex-m4")
