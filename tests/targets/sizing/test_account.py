"""The bytes of files by cause: the sums are exact, and each cause is what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.candidate import Candidate
from compress.errors import ReportError
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from targets.artifact import Artifact
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.inspection import inspect_file
from targets.sizing.account import SizeAccount, StoredWeights, account_sizes
from targets.sizing.onnx import value_bytes
from tests.containers import sparse_lenet, write_untraced
from tests.digits import trained
from tests.exports import exported
from tests.nets import digits_residual_spec
from tests.onnx_files import folded, quantized

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
PARTS = ("weight_bytes", "codebook_bytes", "graph_bytes", "metadata_bytes")


def sizes_of(path: Path) -> SizeAccount:
    found = inspect_file(path).sizes
    assert found is not None
    assert found.file_bytes == path.stat().st_size == sum(getattr(found, name) for name in PARTS)
    return found


def shared(integer: bool = False) -> Candidate:
    """Pruned to 85 % zeros, 4-bit codebooks; with int8 activations and weights if asked."""
    task = trained(digits_residual_spec).task
    pruned = PruneMagnitude(0.85)(folded(digits_residual_spec), task).candidate
    candidate = ShareWeights(4)(pruned, task).candidate
    return QuantizeInt8()(candidate, task).candidate if integer else candidate


def elements(candidate: Candidate) -> int:
    return sum(p.size for p in candidate.network.parameters().values())


def zeros(candidate: Candidate) -> int:
    return sum(int(np.count_nonzero(p == 0)) for p in candidate.network.parameters().values())


def test_a_dense_file_is_its_weights_and_a_graph() -> None:
    candidate = folded(digits_residual_spec)
    found = sizes_of(exported(OnnxExporter(), candidate).path)
    assert found.fp32_bytes == found.weight_bytes == 4 * elements(candidate)
    assert found.zeros_bytes == found.levels_bytes == found.coding_bytes == 0
    assert found.codebook_bytes == 0
    assert 300 < found.metadata_bytes < 2000
    assert found.graph_bytes > 300


def test_an_int8_file_has_a_byte_a_weight_and_its_grids() -> None:
    candidate = quantized(digits_residual_spec)
    found = sizes_of(exported(OnnxExporter(), candidate).path)
    state = candidate.network.parameters()
    weights = sum(p.size for p in state.values() if p.ndim > 1)
    biases = elements(candidate) - weights
    assert found.fp32_bytes == 4 * elements(candidate)
    assert found.levels_bytes == -3 * weights
    assert found.weight_bytes == weights + 4 * biases
    assert found.zeros_bytes == found.coding_bytes == 0
    model = onnx.load(exported(OnnxExporter(), candidate).path)
    kept = {str(t.name): t for t in model.graph.initializer}
    grids = {
        str(name)
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    assert found.codebook_bytes == sum(value_bytes(kept[name]) for name in grids)


def test_a_packed_file_has_no_bytes_for_zeros() -> None:
    candidate = shared()
    found = sizes_of(exported(OnnxPackedExporter(), candidate).path)
    assert found.fp32_bytes == 4 * elements(candidate)
    assert -4 * zeros(candidate) <= found.zeros_bytes < -2 * elements(candidate)
    assert found.levels_bytes < 0
    assert found.codebook_bytes > 0
    assert found.weight_bytes < 0.2 * found.fp32_bytes
    assert sizes_of(exported(OnnxPackedExporter(), shared(integer=True)).path).zeros_bytes < 0


def test_a_container_and_a_packed_file_agree_on_the_net(tmp_path: Path) -> None:
    candidate = shared()
    container = sizes_of(write_untraced(candidate, tmp_path / "c.dc"))
    packed = sizes_of(exported(OnnxPackedExporter(), candidate).path)
    assert container.fp32_bytes == packed.fp32_bytes
    assert container.zeros_bytes <= packed.zeros_bytes  # the one may store small tensors densely
    assert container.coding_bytes < packed.coding_bytes


@pytest.mark.parametrize("name", ["sparse_lenet.v1.dc", "sparse_lenet.v2.dc"])
def test_golden_containers(name: str) -> None:
    found = sizes_of(GOLDEN / name)
    candidate = sparse_lenet()
    assert found.fp32_bytes == 951_240
    # A mask keeps the place 0, whose value is zero: it has no bytes but its place.
    coded = [p for n, p in candidate.network.parameters().items() if n in candidate.encodings]
    assert found.zeros_bytes == -4 * sum(int(np.count_nonzero(p == 0)) for p in coded)
    assert found.graph_bytes == 0


def test_a_tflite_file(int8_file: Callable[[str], tuple[Candidate, Artifact]]) -> None:
    candidate, artifact = int8_file("residual")
    found = sizes_of(artifact.path)
    onnx_file = sizes_of(exported(OnnxExporter(), candidate).path)
    assert found.fp32_bytes == onnx_file.fp32_bytes
    assert found.weight_bytes == onnx_file.weight_bytes
    assert found.levels_bytes == onnx_file.levels_bytes
    assert found.codebook_bytes > 0
    assert found.metadata_bytes > 300


def test_sparse_tensors_of_tflite(tmp_path: Path) -> None:
    """4 x 4 with 3 values by rows: 12 bytes of values, 5 + 3 of positions, 2 x 4 of axes."""
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    from targets.formats.tflite_sketch import Sketch
    from targets.metadata import artifact_metadata

    sketch = Sketch()
    x, y = (sketch.tensor(name, (1, 4), "FLOAT32") for name in "xy")
    w = sketch.tensor("w", (4, 4), "FLOAT32", np.float32([1, 2, 3]))
    dense = sketch.tensor("w_dense", (4, 4), "FLOAT32")
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.array([0, 1], np.int32)
    rows, columns = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, 4
    columns.format = schema.DimensionType.SPARSE_CSR
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
    columns.arraySegments, columns.arrayIndices = schema.Uint8VectorT(), schema.Uint8VectorT()
    columns.arraySegments.values = np.array([0, 1, 1, 2, 3], np.uint8)
    columns.arrayIndices.values = np.array([2, 0, 3], np.uint8)
    sparsity.dimMetadata = [rows, columns]
    sketch.tensors[w].sparsity = sparsity
    sketch.operator("DENSIFY", 1, [w], [dense])
    sketch.operator("FULLY_CONNECTED", 1, [x, dense, -1], [y])
    path = tmp_path / "s.tflite"
    path.write_bytes(sketch.finish({"x": x}, {"y": y}, artifact_metadata(sparse_lenet())))
    found = sizes_of(path)
    assert (found.fp32_bytes, found.zeros_bytes, found.levels_bytes) == (64, -52, 0)
    assert found.coding_bytes == 5 + 3 + 2 * 4
    inspected = inspect_file(path)
    assert (inspected.format, inspected.precision) == ("tflite-packed", "pruned")
    (tensor,) = inspected.tensors
    assert (tensor.name, tensor.shape, tensor.elements, tensor.nonzeros) == ("w", (4, 4), 16, 3)
    assert tensor.file_bytes == 12 + 5 + 3 + 8


def test_files_of_other_makers(tmp_path: Path) -> None:
    """Shapes, scalars and 64-bit integers are no weights; 4 bits are; values may be typed."""
    constants = [
        numpy_helper.from_array(np.array([1, -1], np.int64), "shape"),
        numpy_helper.from_array(np.array(6, np.float32), "six"),
        helper.make_tensor("nibbles", TensorProto.INT4, [3, 5], np.zeros((3, 5), np.int8)),
        helper.make_tensor("typed", TensorProto.FLOAT, [3], [1.0, 0.0, 3.0]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])] for name in ("typed", "y")
    ]
    node = helper.make_node("Mul", ["typed", "six"], ["y"], doc_string="a note")
    model = helper.make_model(
        helper.make_graph([node], "net", [], ends[1], constants),
        opset_imports=[helper.make_opsetid("", 21)],
        producer_name="another",
    )
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    found = sizes_of(path)
    assert found.fp32_bytes == 4 * (15 + 3)
    assert found.levels_bytes == 8 - 60
    assert found.weight_bytes == pytest.approx(8 + 12, abs=4)  # tag and length of typed values
    assert found.metadata_bytes == 2 + len("another") + 2 + len("a note")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 32), st.integers(0, 10**7)
        ),
        max_size=5,
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
)
def test_any_weights_add_up(
    rows: list[tuple[int, float, int, int]], metadata: int, rest: int, before: int
) -> None:
    weights = [StoredWeights(n, int(n * share), b, size, size // 9) for n, share, b, size in rows]
    used = sum(w.weight_bytes + w.table_bytes for w in weights)
    found = account_sizes("f", "0" * 64, used + metadata + rest, weights, metadata)
    assert found.graph_bytes == rest
    assert found.weight_bytes == sum(w.weight_bytes for w in weights)
    other = found.against(before)
    assert other.fp32_bytes == before
    assert (other.weight_bytes, other.file_bytes) == (found.weight_bytes, found.file_bytes)
    assert json.loads(json.dumps(asdict(other)))["structure_bytes"] == found.fp32_bytes - before


def test_accounts_that_contradict_themselves() -> None:
    good = account_sizes("f", "0" * 64, 30, [StoredWeights(10, 5, 8, 6, 4)], 7)
    assert (good.zeros_bytes, good.levels_bytes, good.coding_bytes) == (-20, -15, 1)
    with pytest.raises(ReportError, match="add up to 30, the file has 31"):
        replace(good, file_bytes=31)
    with pytest.raises(ReportError, match="no part below 0"):
        replace(good, graph_bytes=-1, metadata_bytes=21)
    with pytest.raises(ReportError, match="no part below 0"):
        account_sizes("f", "0" * 64, 5, [StoredWeights(10, 5, 8, 6, 4)], 7)
