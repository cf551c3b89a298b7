"""What NVIDIA's driver says of its first GPU, by its own nvidia-smi."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

_ASKED = ("name", "driver_version", "clocks.sm", "temperature.gpu")


def described() -> Mapping[str, str | None]:
    """adapter, driver, and the clock (MHz) and temperature (C) at this moment; None: not told."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        shown: list[str] = []
    else:
        shown = [part.strip() for part in next(iter(done.stdout.splitlines()), "").split(",")]
    told = shown if len(shown) == len(_ASKED) else [None] * len(_ASKED)
    return dict(zip(("adapter", "driver", "clock_mhz", "temperature_c"), told, strict=True))
