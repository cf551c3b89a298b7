"""The files beside an .onnx file that hold its tensors, as torch's exporter writes them."""

from __future__ import annotations

from pathlib import Path

import onnx


def bytes_with_data(path: Path) -> int:
    """Of an .onnx file that loads, with the files of its tensors; of any other file its own."""
    files = {path}
    if path.suffix.lower() == ".onnx":
        model = onnx.load_model(path, load_external_data=False)
        files |= {
            path.parent / entry.value
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
    return sum(file.stat().st_size for file in files)
