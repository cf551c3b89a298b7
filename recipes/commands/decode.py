"""edgepress decode: the .onnx of a Deep Compression container, which stock runtimes load."""

from __future__ import annotations

import argparse
from pathlib import Path

from compress.errors import OutputError
from targets.formats.dc_envelope import read_container
from targets.formats.dc_skeleton import write_onnx


def execute(arguments: argparse.Namespace) -> None:
    """Write the net in `arguments.file` as .onnx, beside it or where --out says."""
    source: Path = arguments.file
    path: Path = arguments.out or source.with_suffix(".onnx")
    _refuse_loss(source, path, overwrite=arguments.overwrite)
    # Read before anything else: what is no container is said at once, without torch.
    carries_graph = read_container(source).graph is not None
    if carries_graph:
        write_onnx(source, path)
    else:
        _export(source, path)
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


def _export(source: Path, path: Path) -> None:
    """By torch, for a container without its graph: its net is built and exported anew."""
    from targets.formats.deep_compression import load
    from targets.formats.onnx import OnnxExporter

    OnnxExporter()(load(source), path)
