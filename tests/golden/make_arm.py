"""Makes tests/golden/arm: small trained nets' files, pictures, and what an emulated ARM answers.

    python -m tests.golden.make_arm

Kept as the record of how they came about. Run it again only where a file is to change on purpose:
the answers are stored because those of this machine are no reference (an x86 without VNNI
saturates where ARM does not).
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.spec import ModelSpec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from targets.devices.qemu.device import QemuDevice
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runner_file import runner_file
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.targets.devices.arm_userland import ANSWERS, FOLDER, TIMEOUT_S

PICTURES = 16


def inputs(file: Path) -> NDArray[Any]:
    """The digits as this file takes them: laid out its way, in its integers."""
    pictures = digits()["test"].images[:PICTURES]
    if file.suffix == ".onnx":
        return pictures
    from ai_edge_litert.interpreter import Interpreter

    taken = Interpreter(model_path=str(file)).get_input_details()[0]
    moved = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))
    if taken["dtype"] is np.float32:
        return moved
    scale, zero = taken["quantization"]
    return np.clip(np.rint(moved / scale) + zero, -128, 127).astype(np.int8)


def outputs(file: Path, batch: NDArray[Any], folder: Path) -> NDArray[Any]:
    """The file's outputs on the oldest of the emulated CPUs, (N, 10)."""
    device = QemuDevice("cortex-a53")
    np.save(folder / "inputs.npy", batch)
    request = {"path": device.push(file), "answers": device.push(folder / "inputs.npy")}
    command = [device.python, device.push(runner_file()), json.dumps(request)]
    done = device.run(command, TIMEOUT_S)
    assert done.status == 0, (done.stdout[-500:], done.stderr[-500:])
    packed = base64.b64decode(json.loads(done.stdout.splitlines()[-1])["outputs"])
    found: NDArray[Any] = np.load(io.BytesIO(packed), allow_pickle=False)
    return found


def candidates(spec: Callable[[], ModelSpec]) -> dict[str, Candidate]:
    net, task = trained(spec)
    folded = FoldBatchNorm()(net, task).candidate
    return {"fp32": folded, "int8": QuantizeInt8()(folded, task).candidate}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    files: list[Path] = []
    for name, spec in (("branch", digits_branch_spec), ("residual", digits_residual_spec)):
        for precision, candidate in candidates(spec).items():
            for exporter in (OnnxExporter(), TFLiteExporter()):
                file = FOLDER / f"{name}-{precision}{exporter.suffix}"
                shutil.copyfile(exported(exporter, candidate).path, file)
                files.append(file)
    stored: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            batch = inputs(file)
            stored[f"{file.name} inputs"] = batch
            stored[f"{file.name} outputs"] = outputs(file, batch, Path(folder))
    np.savez_compressed(ANSWERS, **stored)


if __name__ == "__main__":
    main()
