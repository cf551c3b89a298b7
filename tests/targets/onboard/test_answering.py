"""Outputs for given inputs, asked of the runner as on a device."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from targets.runner_file import runner_file
from tests.reports import write_onnx, write_tflite


def ask(**request: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(runner_file()), json.dumps(request)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert answer["end"] == "edgepress"
    assert ("error" in answer) == (done.returncode != 0)
    return answer


def outputs(answer: dict[str, Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.load(io.BytesIO(base64.b64decode(answer["outputs"])))
    return found


def saved(path: Path, values: NDArray[Any]) -> str:
    np.save(path, values)
    return str(path)


def test_outputs_are_those_of_the_runtime_picture_by_picture(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    inputs = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
    answer = ask(path=str(net), answers=saved(tmp_path / "x.npy", inputs))
    session = onnxruntime.InferenceSession(str(net), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(outputs(answer), session.run(None, {"x": inputs})[0])
    assert answer["provider"] == "CPUExecutionProvider"
    assert "times_ns" not in answer


def test_integers_stay_integers(tmp_path: Path) -> None:
    """A ReLU whose zero lies at -3: what is below comes out as -3."""
    net = write_tflite(tmp_path / "net.tflite", "INT8")
    inputs = np.random.default_rng(1).integers(-128, 128, (2, 8, 8, 3)).astype(np.int8)
    for engine in ("cpu", "plain"):
        answer = ask(path=str(net), engine=engine, answers=saved(tmp_path / "x.npy", inputs))
        np.testing.assert_array_equal(outputs(answer), np.maximum(inputs, -3))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.zeros((2, 3, 16, 15), np.float32), "takes float32[1, 3, 16, 16]; the inputs are"),
        (np.zeros((2, 3, 16, 16), np.float64), "takes float32[1, 3, 16, 16]; the inputs are"),
        (np.zeros((0, 3, 16, 16), np.float32), "holds no inputs"),
        (np.array([{}], dtype=object), "is no .npy file of numbers"),
        (np.zeros((3000, 3, 16, 16), np.float32), "give fewer inputs"),
    ],
    ids=["shape", "type", "none", "objects", "many"],
)
def test_inputs_that_do_not_fit_are_one_line(
    tmp_path: Path, inputs: NDArray[Any], says: str
) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    assert says in ask(path=str(net), answers=saved(tmp_path / "x.npy", inputs))["error"]


def test_a_file_shorter_than_its_header_says_is_refused(tmp_path: Path) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    path = Path(saved(tmp_path / "x.npy", np.zeros((9, 3, 16, 16), np.float32)))
    path.write_bytes(path.read_bytes()[:5000])
    assert "is no .npy file of numbers" in ask(path=str(net), answers=str(path))["error"]
    missing = ask(path=str(net), answers=str(tmp_path / "no.npy"))
    assert "FileNotFoundError" in missing["error"]
    unknown = ask(path=str(net), answers=str(path), runs=3)
    assert "a request for answers needs" in unknown["error"]
