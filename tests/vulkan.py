"""A GPU that is a program: SwiftShader, which `make vulkan` brings, for the tests of GPU engines.

It lies in build/vulkan; EDGEPRESS_VULKAN names another folder. Its time is no latency.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from targets.devices.local import LocalDevice

_NAMED = os.environ.get("EDGEPRESS_VULKAN")
FOLDER = Path(_NAMED or Path(__file__).resolve().parent.parent / "build" / "vulkan").absolute()
_PLUGIN = "onnxruntime_ep_webgpu"


def software_gpu(folder: Path) -> LocalDevice:
    """This machine, its Python told where SwiftShader is; skips where that is not there."""
    manifest = FOLDER / "vk_swiftshader_icd.json"
    if not manifest.exists():
        assert _NAMED is None, f"EDGEPRESS_VULKAN={_NAMED}: there is no {manifest}"
        pytest.skip(f"a software Vulkan is not in {FOLDER}; run: make vulkan")
    return with_environment(folder, LD_LIBRARY_PATH=str(FOLDER), VK_DRIVER_FILES=str(manifest))


def with_environment(folder: Path, **variables: str) -> LocalDevice:
    """This machine with a Python that has `variables` in its environment."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python"
    told = " ".join(f"{name}='{value}'" for name, value in variables.items())
    python.write_text(f'#!/bin/sh\n{told} exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return LocalDevice(python=str(python))


def needs_plugin() -> None:
    """Skip where onnxruntime's plugin is not installed."""
    if importlib.util.find_spec(_PLUGIN) is None:
        pytest.skip(f"{_PLUGIN} is not installed; run: pip install 'edgepress[webgpu]'")
