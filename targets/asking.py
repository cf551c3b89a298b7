"""The runner asked: one request, one process on the device, one answer that is believed or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import targets
from compress.errors import DeviceError, MissingExtraError
from targets.answer_line import answer_line
from targets.device import Completed
from targets.devices.local import LocalDevice
from targets.devices.remote import last_words
from targets.measurement import Target
from targets.onboard.engine import runs
from targets.runner_file import runner_file
from targets.runtimes.onnx_age import too_new

# What to install for a runtime that the runner misses.
_BRINGS = {
    "ai_edge_litert": "edgepress[litert]",
    "onnxruntime": "edgepress",
    "onnxruntime_ep_webgpu": "edgepress[webgpu]",
    "torch": "edgepress",
}

Answer = Mapping[str, Any]
"""What the runner says of one process (see targets.onboard)."""


def ask_runner(
    path: Path, target: Target, request: Mapping[str, Any], timeout_s: float
) -> dict[str, Any]:
    """What the runner answers to `request` about the file on the target.

    Raises DeviceError where it cannot run the file there, MissingExtraError without the runtime.
    """
    device = target.device
    whole = {
        "path": device.push(path),
        "engine": target.engine,
        "threads": target.threads,
        "software_gpu": target.software_gpu,
        "edgepress_path": _own_packages(path, target),
        **request,
    }
    command = [device.python, device.push(runner_file()), json.dumps(whole)]
    return _answer(path, target, device.run(command, timeout_s))


def _own_packages(path: Path, target: Target) -> str | None:
    """The folder of our packages, for the engines of containers: on this machine alone."""
    if ".dc" not in runs(target.engine):
        return None
    if not isinstance(target.device, LocalDevice):
        raise DeviceError(
            f"{path.name} cannot be measured on {target.name}: the engine {target.engine} needs "
            f"edgepress itself and runs on local only; write local+{target.engine}"
        )
    return str(Path(targets.__path__[0]).resolve().parent)


def _answer(path: Path, target: Target, completed: Completed) -> dict[str, Any]:
    """What the runner says, where it is whole and no error."""
    fields = answer_line(completed)
    if fields is None:
        raise DeviceError(
            f"measuring {path.name} on {target.name} ended with status "
            f"{completed.status} and no result; its last words: {last_words(completed.stderr)}"
        )
    if "missing" in fields:
        missing = str(fields["missing"])
        wanted = _BRINGS.get(missing, missing)
        raise MissingExtraError(
            f"measuring {path.name} on {target.name} needs {missing}, which is not usable "
            f"there ({fields['error']}); run: pip install '{wanted}'"
        )
    if "error" in fields:
        said, where = str(fields["error"]), f"on {target.name}"
        newer = too_new(path.read_bytes(), where, said) if path.suffix == ".onnx" else None
        raise DeviceError(f"{path.name} {newer or f'cannot be measured {where}: {said}'}")
    if completed.status != 0:
        raise DeviceError(
            f"measuring {path.name} on {target.name} ended with status {completed.status} "
            f"after its answer, which is not believed; its last words: "
            f"{last_words(completed.stderr)}"
        )
    return fields
