"""A file's outputs, computed on a target: by the runner there, on pictures that are sent to it."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import DeviceError
from targets.asking import ask_runner
from targets.measurement import Target
from targets.runtimes.litert import LiteRtRuntime


@dataclass(frozen=True)
class DeviceAnswers:
    """The first output for each input (N, ...), in the file's own type, and what computed it.

    untimed: the reason if that was no hardware; accelerator: see targets.measurement.
    """

    outputs: NDArray[Any]
    runtime: str
    provider: str
    untimed: str | None
    accelerator: Mapping[str, Any] | None


def answers_on(
    path: Path, target: Target, inputs: NDArray[Any], timeout_s: float = 600.0
) -> DeviceAnswers:
    """Run the file on the target, an input at a time; inputs as `own_inputs` gives them.

    Raises DeviceError where it cannot be run there or the answer is not whole, MissingExtraError.
    """
    with tempfile.TemporaryDirectory() as folder:
        sent = Path(folder) / "inputs.npy"
        np.save(sent, inputs, allow_pickle=False)
        request = {"answers": target.device.push(sent)}
        answer = ask_runner(path, target, request, timeout_s)
    outputs = _unpacked(answer.get("outputs"), f"the answers of {path.name} on {target.name}")
    if len(outputs) != len(inputs):
        raise DeviceError(
            f"{path.name} on {target.name} gave {len(outputs)} outputs for {len(inputs)} inputs"
        )
    return DeviceAnswers(
        outputs=outputs,
        runtime=f"{answer['runtime']} {answer['version']}",
        provider=str(answer["provider"]),
        untimed=answer["untimed"],
        accelerator=answer.get("accelerator"),
    )


def own_inputs(path: Path, pictures: NDArray[np.float32]) -> NDArray[Any]:
    """Pictures, float32 (N, C, H, W), in the layout and the type of the file's input."""
    if path.suffix != ".tflite":
        return np.ascontiguousarray(pictures, np.float32)
    return np.concatenate(LiteRtRuntime().load(path).feeds(pictures))


def _unpacked(text: object, what: str) -> NDArray[Any]:
    """The array of a base64 .npy whose header fits what follows it. DeviceError."""
    if not isinstance(text, str):
        raise DeviceError(f"{what} are missing")
    try:
        file = io.BytesIO(base64.b64decode(text, validate=True))
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        rest = file.read()
        if dtype.hasobject or by_columns or not shape:
            raise ValueError(f"{dtype}{list(shape)}")
        return np.frombuffer(rest, dtype).reshape(shape)
    except (binascii.Error, ValueError) as error:
        raise DeviceError(f"{what} are damaged ({error}); run it again") from error
