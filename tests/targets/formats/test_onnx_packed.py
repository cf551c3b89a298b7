from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import EncodingError, EquivalenceError, RangeError
from compress.spec import ModelSpec
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from targets.artifact import Artifact
from targets.equivalence import assert_equivalent
from targets.formats.forest_graph import PLANES, TREE
from targets.formats.onnx_graph import float_model
from targets.formats.onnx_pack import pack
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.inspection import inspect_file
from targets.metadata import KEY, read_metadata
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, digits_task, trained
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.onnx_files import folded, optimized, outputs, tampered, written
from tests.onnx_kinds import noise, squeezenet

PICTURES = digits()["validation"].images[:32]
PACKED = OnnxPackedExporter()


@functools.cache
def shared(spec: Callable[[], ModelSpec] = digits_residual_spec, bits: int = 4) -> Candidate:
    task = trained(spec).task
    pruned = PruneMagnitude(0.85)(folded(spec), task).candidate
    return ShareWeights(bits)(pruned, task).candidate


@functools.cache
def integer() -> Candidate:
    """int8 activations; the weights are pruned, shared and on a grid."""
    return QuantizeInt8()(shared(digits_branch_spec), trained(digits_branch_spec).task).candidate


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
def test_the_engine_folds_it_into_the_plain_net(level: str, tmp_path: Path) -> None:
    candidate = shared()
    path = exported(PACKED, candidate).path
    assert {"Gather", "Max", "CumSum"} <= {n.op_type for n in onnx.load(path).graph.node}
    after = optimized(path, level, tmp_path)
    before = optimized(written(candidate).path, level, tmp_path)
    assert [n.op_type for n in after.node] == [n.op_type for n in before.node]
    held = {t.name: numpy_helper.to_array(t) for t in after.initializer}
    for tensor in before.initializer:
        values = numpy_helper.to_array(tensor)
        same = [v for v in held.values() if v.shape == values.shape]
        assert any(v.tobytes() == values.tobytes() for v in same), tensor.name


def test_integer_files_hold_packed_codes_and_run_on_integer_kernels(tmp_path: Path) -> None:
    candidate = integer()
    artifact = exported(PACKED, candidate)
    plain = written(candidate)
    assert artifact.precision == "int8"
    assert artifact.size_bytes < 0.85 * plain.size_bytes
    session, reference = OnnxRuntime().load(artifact.path), OnnxRuntime().load(plain.path)
    np.testing.assert_array_equal(session.predict(PICTURES), reference.predict(PICTURES))
    after = optimized(artifact.path, "ORT_ENABLE_EXTENDED", tmp_path)
    before = optimized(plain.path, "ORT_ENABLE_EXTENDED", tmp_path)
    kinds = [n.op_type for n in after.node]
    assert kinds == [n.op_type for n in before.node]
    assert "QLinearConv" in kinds
    assert not {"Conv", "Gemm"} & set(kinds)
    assert_equivalent(candidate, artifact, OnnxRuntime(), PICTURES)


def test_artifact_and_metadata() -> None:
    candidate = shared()
    artifact = exported(PACKED, candidate)
    assert (artifact.format, artifact.precision) == ("onnx-packed", "shared")
    assert artifact.path.name == "net.packed.onnx"
    assert artifact.path.suffix == ".onnx"
    model = onnx.load(artifact.path)
    assert [entry.key for entry in model.metadata_props] == [KEY]
    found = read_metadata(model.metadata_props[0].value)
    assert (found.digest, found.classes) == (candidate.digest(), candidate.spec.classes)
    assert not any(node.name or node.doc_string for node in model.graph.node)
    assert [entry.version for entry in model.opset_import] == [18]
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def test_a_dense_net_is_never_larger_than_its_plain_file() -> None:
    candidate = folded(digits_residual_spec)
    artifact = exported(PACKED, candidate)
    assert artifact.precision == "fp32"
    assert artifact.size_bytes <= written(candidate).size_bytes


def test_pruned_floats_are_masked() -> None:
    pruned = PruneMagnitude(0.7)(folded(digits_residual_spec), digits_task()).candidate
    artifact = exported(PACKED, pruned)
    assert artifact.size_bytes < 0.5 * written(pruned).size_bytes
    found = inspect_file(artifact.path)
    assert (found.format, found.precision) == ("onnx-packed", "pruned")
    assert {t.form for t in found.tensors if t.name.endswith(".weight")} >= {"masked"}
    assert_equivalent(pruned, artifact, OnnxRuntime(), PICTURES)


def test_inspection_names_the_tensors_and_counts_their_zeros() -> None:
    candidate = shared()
    path = exported(PACKED, candidate).path
    found = inspect_file(path)
    assert (found.format, found.precision, found.opset) == ("onnx-packed", "shared", 18)
    tensors = {t.name: t for t in found.tensors}
    packed = [t for t in found.tensors if t.form == "shared"]
    assert len(packed) > 3
    for name, encoding in candidate.encodings.items():
        assert isinstance(encoding, Encoded)
        summary = tensors[name]
        assert summary.shape == encoding.shape
        assert summary.nonzeros == encoding.indices.size - np.count_nonzero(encoding.zeros())
        assert summary.dtype == "float32"
        assert summary.form == "plain" or summary.index_bits == 4
    assert sum(found.parts.values()) == found.file_bytes == path.stat().st_size
    assert {"mask", "codes4", "book", "decoding"} <= set(found.parts)


def test_inspection_of_integer_files() -> None:
    found = inspect_file(exported(PACKED, integer()).path)
    assert (found.format, found.precision) == ("onnx-packed", "int8")
    assert "int8" in {t.dtype for t in found.tensors if t.form == "int8"}


def test_a_file_whose_weights_are_not_the_candidates_is_told() -> None:
    candidate = shared()

    def other_book(model: onnx.ModelProto) -> None:
        (tensor,) = [t for t in model.graph.initializer if t.name == "conv2.weight:book"]
        book = numpy_helper.to_array(tensor)[::-1].copy()
        tensor.CopyFrom(numpy_helper.from_array(book, tensor.name))

    artifact: Artifact = exported(PACKED, candidate)
    wrong = tampered(artifact, other_book, artifact.path.with_name("wrong.packed.onnx"))
    with pytest.raises(EquivalenceError, match="parts from its candidate at conv2/conv2d#0"):
        assert_equivalent(candidate, wrong, OnnxRuntime(), PICTURES)
    wrong.path.unlink()


def test_modern_files_hold_tensors_of_four_bits() -> None:
    candidate = shared()
    artifact = exported(OnnxPackedExporter("modern"), candidate)
    model = onnx.load(artifact.path)
    assert [entry.version for entry in model.opset_import] == [21]
    assert onnx.TensorProto.UINT4 in {t.data_type for t in model.graph.initializer}
    expected = OnnxRuntime().load(written(candidate).path).predict(PICTURES)
    np.testing.assert_array_equal(OnnxRuntime().load(artifact.path).predict(PICTURES), expected)


def test_an_encoding_that_does_not_decode_to_its_parameter_is_refused(tmp_path: Path) -> None:
    candidate = shared()
    parameters = candidate.network.parameters()
    changed = parameters["fc.weight"].copy()
    changed[3, 5] += 1
    broken = replace(
        candidate, network=candidate.network.with_parameters({**parameters, "fc.weight": changed})
    )
    with pytest.raises(EncodingError, match=r"'fc\.weight' at \(3, 5\): the parameter is .* gives"):
        PACKED(broken, tmp_path / "net.packed.onnx")
    assert not list(tmp_path.iterdir())


def test_unknown_profiles_are_refused() -> None:
    with pytest.raises(RangeError, match=r"profile='old'\): allowed are 'compatible', 'modern'"):
        OnnxPackedExporter("old")  # type: ignore[arg-type]


def test_prefix_codes_are_smaller_and_quick_files_have_none() -> None:
    candidate = squeezenet()
    small = exported(PACKED, candidate)
    quick = exported(OnnxPackedExporter(quick=True), candidate)
    assert small.size_bytes < 0.97 * quick.size_bytes < 0.2 * written(candidate).size_bytes
    for artifact, prefixed in ((small, True), (quick, False)):
        constants = {tensor.name for tensor in onnx.load(artifact.path).graph.initializer}
        assert ({PLANES, TREE} <= constants) == prefixed
        assert bool({PLANES, TREE} & constants) == prefixed
    pictures = noise(candidate)[:1]
    for optimize in (True, False):
        expected = outputs(written(candidate).path, pictures, optimize)
        for artifact in (small, quick):
            assert outputs(artifact.path, pictures, optimize).tobytes() == expected.tobytes()


def test_packing_twice_changes_nothing(tmp_path: Path) -> None:
    candidate = shared()
    once = float_model(candidate, 18)
    pack(once, candidate.encodings)
    twice = copy.deepcopy(once)
    pack(twice, candidate.encodings)
    paths = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    for path, model in zip(paths, (once, twice), strict=True):
        path.write_bytes(model.SerializeToString())
    first, second = (outputs(path, PICTURES[:2], True) for path in paths)
    assert second.tobytes() == first.tobytes()
