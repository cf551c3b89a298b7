"""Model files of the digit net and pictures for them, each written once a session."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from compress.candidate import Candidate
from compress.stages.prune_magnitude import PruneMagnitude
from recipes import cli
from targets.formats.deep_compression import DeepCompressionExporter
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import Split, digits, trained
from tests.exports import exported
from tests.nets import digits_residual_spec
from tests.onnx_files import EXPORTER, folded, quantized

Image = pytest.importorskip("PIL.Image", reason="needs pip install 'edgepress[pictures]'")

PICTURES = 60
# Of its weights only these are left: it is wrong now and then.
_SPARSITY = 0.8


@functools.cache
def fp32_file() -> Path:
    return exported(EXPORTER, folded(digits_residual_spec)).path


@functools.cache
def int8_file() -> Path:
    return exported(EXPORTER, quantized(digits_residual_spec)).path


@functools.cache
def spoilt() -> Candidate:
    task = trained(digits_residual_spec).task
    return PruneMagnitude(_SPARSITY)(folded(digits_residual_spec), task).candidate


@functools.cache
def spoilt_file() -> Path:
    return exported(EXPORTER, spoilt()).path


@functools.cache
def spoilt_container() -> Path:
    """With its graph: the file names a net of the tests, which no container may build."""
    return exported(DeepCompressionExporter(graph=True), spoilt()).path


def changed(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """A copy of an .onnx file with its model changed."""
    model = onnx.load(path)
    change(model)
    target = Path(tempfile.mkdtemp()) / f"changed-{path.name}"
    onnx.save(model, target)
    return target


@functools.cache
def softmax_file() -> Path:
    """The fp32 net with a softmax at its end."""

    def append(model: onnx.ModelProto) -> None:
        last = model.graph.output[0]
        model.graph.node.append(helper.make_node("Softmax", [last.name], ["shares"], axis=1))
        last.name = "shares"

    return changed(fp32_file(), append)


@functools.cache
def foreign_file() -> Path:
    """The fp32 net as another maker's tool writes it: without our metadata."""
    return changed(fp32_file(), lambda model: model.ClearField("metadata_props"))


@functools.cache
def sample() -> Split:
    """Test pictures, 8 x 8, values 0..1, with labels."""
    split = digits()["test"]
    return Split(split.images[:PICTURES], split.labels[:PICTURES])


@functools.cache
def folder(labelled: bool = True) -> Path:
    """The sample as PNG files: with a labels.csv, or without."""
    root = Path(tempfile.mkdtemp())
    for name, picture in zip(names(), sample().images, strict=True):
        Image.fromarray((picture[0] * 16).astype(np.uint8)).save(root / name)
    if labelled:
        lines = [f"{n},{label}" for n, label in zip(names(), sample().labels, strict=True)]
        (root / "labels.csv").write_text("\n".join(["file,label", *lines]))
    return root


def names() -> list[str]:
    return [f"{index:02}.png" for index in range(PICTURES)]


def logits(path: Path) -> NDArray[np.float32]:
    """What the .onnx file puts out for the sample, by its runtime alone."""
    return OnnxRuntime().load(path).predict(sample().images)


def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(values.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What `edgepress ARGUMENTS` prints."""
    assert cli.main([str(a) for a in arguments]) == status
    found = capsys.readouterr()
    assert found.err == ""
    return found.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error, after exit code 2; nothing was printed."""
    try:
        status = cli.main([str(a) for a in arguments])
    except SystemExit as error:  # argparse
        status = error.code
    found = capsys.readouterr()
    assert status == 2, found.err
    assert found.err.startswith("edgepress: ")
    assert len(found.err.splitlines()) == 1
    assert found.out == ""
    return found.err


BAD_MODELS: Sequence[tuple[str, bytes | None, str]] = (
    ("missing.onnx", None, "does not exist or is no file"),
    ("model.txt", b"text", "of a kind that cannot be run (.txt); give one of .onnx"),
    ("model", b"text", "of a kind that cannot be run (no suffix)"),
    ("text.onnx", b"this is no model", "no readable .onnx file"),
    ("empty.onnx", b"", "onnxruntime cannot load"),
    ("text.tflite", b"this is no model", "no .tflite file"),
    ("cut.tflite", b"\x1c\0\0\0TFL3\0\0", "damaged"),
    ("text.dc", b"this is no model", "text.dc"),
)
"""(name, content or None, what is said)."""
