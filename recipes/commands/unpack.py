"""edgepress unpack: a Deep Compression container as a file that other tools load."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.errors import OutputError
from targets.formats.dc_envelope import read_container
from targets.formats.dc_unpack import unpack_onnx, unpack_packed, unpack_state, unpack_tflite

SUFFIXES = {
    "onnx": ".onnx",
    "onnx-packed": ".packed.onnx",
    "state-dict": ".safetensors",
    "tflite": ".tflite",
    "tflite-packed": ".packed.tflite",
}


def execute(arguments: argparse.Namespace) -> None:
    """Write the net in `arguments.file` as --to says, beside it or where --out says."""
    source: Path = arguments.file
    if arguments.profile is not None and arguments.to != "onnx-packed":
        raise OutputError(
            f"--profile {arguments.profile} is for --to onnx-packed, not --to {arguments.to}; "
            f"leave it out"
        )
    about = read_container(source).about
    path: Path = arguments.out or source.with_suffix(SUFFIXES[arguments.to])
    _refuse_loss(source, path, overwrite=arguments.overwrite)
    if arguments.to == "onnx-packed":
        unpack_packed(source, path, arguments.profile or "compatible")
    elif arguments.to.startswith("tflite"):
        unpack_tflite(source, path, packed=arguments.to == "tflite-packed")
    else:
        write = {"onnx": unpack_onnx, "state-dict": unpack_state}
        write[arguments.to](source, path)
    print(f"{path}: {path.stat().st_size:,} bytes{_edited(about, arguments.to)}")


def _edited(about: Mapping[str, Any], to: str) -> str:
    """What who loads a state-dict must know: its names are those of the net after its edits."""
    edits = about.get("edits")
    if to != "state-dict" or not isinstance(edits, list) or not edits:
        return ""
    kinds = sorted({str(edit.get("kind")) for edit in edits if isinstance(edit, dict)})
    return f", named as in the net after its {len(edits)} edits ({', '.join(kinds)})"


def _refuse_loss(source: Path, path: Path, *, overwrite: bool) -> None:
    """OutputError where writing `path` would lose something that is there."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise OutputError(f"{path} is {kind}; give a file with --out")
    if path.exists() and path.samefile(source):
        raise OutputError(f"{path} is the container itself; give another file with --out")
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} is there already; add --overwrite to replace it, or give another file with "
            f"--out"
        )
