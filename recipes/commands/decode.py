"""edgepress decode: the .onnx of a Deep Compression container, which stock runtimes load."""

from __future__ import annotations

import argparse
from pathlib import Path

from compress.errors import OutputError
from recipes.toolbox.model_files import write_decoded


def execute(arguments: argparse.Namespace) -> None:
    """Write the net in `arguments.file` as .onnx, beside it or where --out says."""
    source: Path = arguments.file
    path: Path = arguments.out or source.with_suffix(".onnx")
    _refuse_loss(source, path, overwrite=arguments.overwrite)
    write_decoded(source, path)
    print(f"{path}: {path.stat().st_size:,} bytes")


def _refuse_loss(source: Path, path: Path, *, overwrite: bool) -> None:
    """OutputError where writing `path` would lose something that is there."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file with --out")
    if path.exists() and source.exists() and path.samefile(source):
        raise OutputError(f"{path} is the container itself; give another file with --out")
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} is there already; add --overwrite to replace it, or give another file with "
            f"--out"
        )
