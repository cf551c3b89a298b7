"""Outputs on an engine beside the processor's: what differs, and answers that are not whole."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import DeviceError
from targets.agreement import compared, outputs_against
from targets.device_answers import DeviceAnswers, answers_on, own_inputs
from targets.devices.local import LocalDevice
from targets.measurement import Target
from tests.reports import write_onnx, write_tflite
from tests.scripted_device import ScriptedDevice

NET = Path("net.onnx")
INPUTS = np.zeros((2, 3), np.float32)


def answers(outputs: NDArray[Any], **accelerator: Any) -> DeviceAnswers:
    return DeviceAnswers(outputs, "runtime 1", "provider", None, accelerator or None)


def told(outputs: object) -> ScriptedDevice:
    return ScriptedDevice(
        {
            "runtime": "r",
            "version": "1",
            "provider": "p",
            "untimed": None,
            "outputs": outputs,
            "end": "edgepress",
        }
    )


def saved(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def test_what_differs_and_what_ran_where() -> None:
    cpu = np.float32([[1, 2, 3], [6, 5, 4]])
    gpu = np.float32([[1, 2, 3.5], [4.75, 5, 4]])
    target = Target(LocalDevice(), engine="webgpu")
    placed = {"nodes": {"A": 3}, "cpu_nodes": {"Pad": 1}, "copies": {"up": 2}, "adapter": "Card"}
    found = compared(NET, target, answers(gpu, **placed), answers(cpu))
    assert (found.largest, found.range, found.top1, found.pictures) == (1.25, 6.0, 0.5, 2)
    assert (found.nodes, found.cpu_nodes, found.copies) == ({"A": 3}, {"Pad": 1}, {"up": 2})
    assert (found.file, found.target, found.adapter) == ("net.onnx", "local+webgpu", "Card")


def test_integers_differ_by_whole_steps_and_never_wrap() -> None:
    cpu, gpu = np.int8([[-128, 3]]), np.int8([[127, 3]])
    found = compared(NET, Target(LocalDevice()), answers(gpu), answers(cpu))
    assert (found.largest, found.range, found.top1) == (255.0, 128.0, 0.0)
    assert found.nodes is None


def test_an_output_that_is_no_row_of_classes_has_no_first_class() -> None:
    maps = np.zeros((2, 3, 4, 4), np.float32)
    assert compared(NET, Target(LocalDevice()), answers(maps), answers(maps)).top1 is None


def test_an_engine_agrees_with_itself_to_the_bit(tmp_path: Path) -> None:
    """On integers and NHWC, too, and without any GPU."""
    path = write_tflite(tmp_path / "net.tflite", "INT8")
    pictures = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    found = outputs_against(path, Target(LocalDevice(), engine="plain"), pictures)
    assert (found.largest, found.top1) == (0.0, None)
    assert found.range > 30


def test_pictures_come_in_the_files_own_layout_and_type(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    inputs = own_inputs(write_tflite(tmp_path / "net.tflite", "INT8"), pictures)
    assert inputs.dtype == np.int8
    steps = np.round(pictures.transpose(0, 2, 3, 1) / 0.05) - 3
    np.testing.assert_array_equal(inputs, steps)
    np.testing.assert_array_equal(own_inputs(NET, pictures), pictures)


def test_outputs_come_back_as_they_were(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int8).reshape(2, 3)
    device = told(base64.b64encode(saved(values)).decode())
    found = answers_on(write_onnx(tmp_path / "net.onnx"), Target(device), INPUTS)
    assert found.outputs.dtype == np.int8
    np.testing.assert_array_equal(found.outputs, values)


HUGE = saved(np.zeros((2, 3), np.float32)).replace(b"(2, 3)", b"(2, 9)")


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (None, "are missing"),
        ("not base64!", "are damaged"),
        (base64.b64encode(b"no array").decode(), "are damaged"),
        (base64.b64encode(HUGE).decode(), "are damaged"),
        (base64.b64encode(saved(np.zeros((2, 3)))[:-5]).decode(), "are damaged"),
        (base64.b64encode(saved(np.array([{}]))).decode(), "are damaged"),
        (base64.b64encode(saved(np.zeros((3, 3)))).decode(), "gave 3 outputs for 2 inputs"),
    ],
    ids=["none", "text", "magic", "shape", "cut", "objects", "more"],
)
def test_outputs_that_are_not_whole_are_refused(tmp_path: Path, outputs: object, says: str) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    with pytest.raises(DeviceError, match=says) as caught:
        answers_on(net, Target(told(outputs)), INPUTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (np.float32([[1, np.nan]]), "1 of 2 outputs that are not finite"),
        (np.float32([[1, 2, 3]]), r"outputs of shape \[1, 3\], the processor \[1, 2\]"),
    ],
    ids=["nan", "shape"],
)
def test_outputs_that_cannot_be_compared_are_told(outputs: NDArray[Any], says: str) -> None:
    target = Target(LocalDevice(), engine="webgpu-fp16")
    with pytest.raises(DeviceError, match=rf"net.onnx on local\+webgpu-fp16 gave {says}"):
        compared(NET, target, answers(outputs), answers(np.float32([[1, 2]])))
