"""A file's outputs on an engine beside those of the processor's: how near, and what ran where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import DeviceError
from targets.answers import agreement
from targets.device_answers import DeviceAnswers, answers_on, own_inputs
from targets.devices.local import LocalDevice
from targets.measurement import Target


@dataclass(frozen=True)
class Agreement:
    """One file on one target beside the same file on a processor.

    largest: the largest difference of an output, in its own units: steps of an integer output.
    range: the largest output of the processor, in the same units. top1: share of the pictures, in
    [0, 1], with the same first class; None where the output is no row of classes. nodes: by who ran
    them; cpu_nodes: those that the engine left to the processor, by operator; copies: between the
    two, by direction; each None where the runtime does not tell.
    """

    file: str
    target: str
    pictures: int
    runtime: str
    provider: str
    adapter: str | None
    largest: float
    range: float
    top1: float | None
    nodes: Mapping[str, int] | None
    cpu_nodes: Mapping[str, int] | None
    copies: Mapping[str, int] | None


def outputs_against(
    path: Path,
    target: Target,
    pictures: NDArray[np.float32],
    beside: Target | None = None,
    timeout_s: float = 600.0,
) -> Agreement:
    """Run the file on `target` and `beside` (this machine's processor), pictures (N, C, H, W).

    fp32 agrees to about 1e-6 of the range between processors. int8 is bit for bit the same where
    this machine has exact int8 products (VNNI, ARM); older x86 saturates some and is the one that
    is wrong. Raises DeviceError where an engine refuses the file or fell back, MissingExtraError.
    """
    inputs = own_inputs(path, pictures)
    found = answers_on(path, target, inputs, timeout_s)
    reference = answers_on(path, beside or _processor(path), inputs, timeout_s)
    return compared(path, target, found, reference)


def _processor(path: Path) -> Target:
    """This machine's processor: by the stock runtime, a container by eager torch."""
    return Target(LocalDevice(), engine="torch" if path.suffix == ".dc" else "cpu")


def compared(path: Path, target: Target, found: DeviceAnswers, on_cpu: DeviceAnswers) -> Agreement:
    """`found` beside `on_cpu`, both for the same inputs.

    Raises DeviceError where they cannot be compared: of other shapes, or no finite numbers.
    """
    ours, theirs = (a.outputs.astype(np.float64) for a in (found, on_cpu))
    if ours.shape != theirs.shape:
        raise DeviceError(
            f"{path.name} on {target.name} gave outputs of shape {list(ours.shape)}, the processor "
            f"{list(theirs.shape)}; see whether both have the same runtime"
        )
    for outputs, where in ((ours, target.name), (theirs, "the processor")):
        wrong = int(np.sum(~np.isfinite(outputs)))
        if wrong:
            raise DeviceError(
                f"{path.name} on {where} gave {wrong} of {outputs.size} outputs that are not "
                f"finite numbers; 16-bit floats may have overflown"
            )
    accelerator = found.accelerator or {}
    return Agreement(
        file=path.name,
        target=target.name,
        pictures=len(ours),
        runtime=found.runtime,
        provider=found.provider,
        adapter=accelerator.get("adapter"),
        largest=float(np.abs(ours - theirs).max()),
        range=float(np.abs(theirs).max()),
        top1=_top1(on_cpu.outputs, found.outputs),
        nodes=accelerator.get("nodes"),
        cpu_nodes=accelerator.get("cpu_nodes"),
        copies=accelerator.get("copies"),
    )


def _top1(theirs: NDArray[Any], ours: NDArray[Any]) -> float | None:
    if ours.ndim != 2:
        return None
    return agreement(theirs.astype(np.float32), ours.astype(np.float32))
