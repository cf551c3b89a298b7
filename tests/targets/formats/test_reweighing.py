"""Another candidate's weights put in place give the bytes that the converter would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.spec import ModelSpec
from compress.stages.share_weights import ShareWeights
from targets.artifact import Exporter
from targets.formats import reweighing
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_graph import float_model
from targets.formats.tflite import TFLiteExporter
from tests.digits import digits_task
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec
from tests.onnx_files import folded, quantized

SPECS = (digits_residual_spec, digits_branch_spec, digits_plain_spec)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    reweighing._last.clear()
    yield
    reweighing._last.clear()


@pytest.mark.parametrize("exporter", [OnnxExporter(), TFLiteExporter()], ids=lambda e: e.format)
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.__name__)
def test_the_bytes_are_the_converters(
    exporter: Exporter, spec: Callable[[], ModelSpec], tmp_path: Path
) -> None:
    if exporter.format == "tflite":
        pytest.importorskip("litert_torch")
    first = folded(spec)
    second = ShareWeights(4)(first, digits_task()).candidate
    fresh = exporter(second, tmp_path / "fresh").path.read_bytes()
    reweighing._last.clear()
    exporter(first, tmp_path / "first")
    (kept,) = reweighing._last.values()
    assert kept.places.keys() == first.network.parameters().keys()
    again = exporter(second, tmp_path / "again").path.read_bytes()
    assert again == fresh
    assert (tmp_path / "first").read_bytes() != fresh


def test_int8_grids_take_the_reweighed_graph(tmp_path: Path) -> None:
    fresh = OnnxExporter()(quantized(digits_residual_spec), tmp_path / "fresh").sha256
    reweighing._last.clear()
    float_model(folded(digits_residual_spec), 18)
    again = OnnxExporter()(quantized(digits_residual_spec), tmp_path / "again").sha256
    assert again == fresh


def convert_counted(candidate: Candidate, calls: list[int]) -> bytes:
    def convert() -> bytes:
        calls.append(1)
        parts = [array.tobytes() for array in candidate.network.parameters().values()]
        return b"-".join(parts)

    return reweighing.reweighed(candidate, "bytes", convert)


def test_another_net_or_form_is_converted() -> None:
    calls: list[int] = []
    plain, residual = folded(digits_plain_spec), folded(digits_residual_spec)
    assert convert_counted(plain, calls) == convert_counted(plain, calls)
    assert len(calls) == 1
    convert_counted(residual, calls)
    assert len(calls) == 2


@pytest.mark.parametrize(("kept", "conversions"), [(1, 3), (2, 2)])
def test_the_last_nets_of_a_form_are_kept(
    kept: int, conversions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reweighing, "KEPT_BY_FORM", kept)
    calls: list[int] = []
    for spec in (digits_plain_spec, digits_residual_spec, digits_plain_spec):
        convert_counted(folded(spec), calls)
    assert len(calls) == conversions
    assert len(reweighing._last) == kept


def test_equal_parameters_are_not_told_apart() -> None:
    """Converters write equal tensors once: which of both stands there cannot be known."""
    plain = folded(digits_plain_spec)
    zeros = np.zeros((10,), np.float32)
    twice = plain.with_values({"fc1.bias": np.zeros((40,), np.float32), "fc2.bias": zeros}, {})
    calls: list[int] = []
    convert_counted(twice, calls)  # zeros stand in many places
    convert_counted(twice, calls)
    assert len(calls) == 2
