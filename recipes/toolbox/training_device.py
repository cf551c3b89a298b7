"""Which device trains: its kind, whether it is here, and what a record calls it."""

from __future__ import annotations

import torch

from compress.errors import RangeError

DEVICES = ("cpu", "cuda", "mps", "auto")


def present(device: str) -> str:
    """The kind of device: "cpu", "cuda" or "mps". RangeError where it is not on this machine."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = [kind for kind, there in here.items() if there]
    if device == "auto":
        return (*found, "cpu")[0]
    if device not in ("cpu", *found):
        there = ", ".join(("cpu", *found))
        raise RangeError(
            f"device={device!r} (a recipe's --train-on) is not on this machine; there are: {there}"
        )
    return device


def accelerator_name(kind: str) -> str:
    """What a record says of the device: "NVIDIA H100 80GB HBM3", say; "" for the processor."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return "" if kind == "cpu" else kind
