from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import EncodingError, EquivalenceError, RangeError
from compress.models.lenet import lenet5_spec, lenet300_spec
from compress.models.mobilenet_v1 import mobilenet_v1_spec
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.mobilenet_v3 import mobilenet_v3_small_spec
from compress.models.resnet_cifar import resnet20_spec
from compress.models.shufflenet_v1 import shufflenet_v1_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from targets.artifact import Artifact
from targets.equivalence import assert_equivalent
from targets.formats.onnx import build_model
from targets.formats.onnx_graph import float_model
from targets.formats.onnx_pack import PROFILES, pack
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.inspection import inspect_file
from targets.metadata import KEY, read_metadata
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, digits_task, trained
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.onnx_files import folded, tampered, written

PICTURES = digits()["validation"].images[:32]
PACKED = OnnxPackedExporter()
# (net, bits of its clusters): every width of code, pruned and whole.
NETS: dict[str, tuple[ModelSpec, int]] = {
    "lenet300": (lenet300_spec(), 2),
    "lenet5": (lenet5_spec(), 3),
    "resnet20": (resnet20_spec(), 4),
    "squeezenet1_1": (squeezenet1_1_spec(small=True), 5),
    "mobilenet_v1": (mobilenet_v1_spec(width=0.25, small=True), 6),
    "mobilenet_v2": (mobilenet_v2_spec(width=0.35, small=True), 7),
    "mobilenet_v3_small": (mobilenet_v3_small_spec(width=0.5, small=True), 8),
    "shufflenet_v1": (shufflenet_v1_spec(width=0.5, small=True), 4),
    "shufflenet_v2": (shufflenet_v2_spec(width=0.5, small=True), 9),
}


def lively(spec: ModelSpec) -> Candidate:
    """Random weights, and batch norms whose factors are of both signs."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = spec.build()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_()
                module.bias.normal_()
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator]
    return Candidate.load(spec, net)


def outputs(model: onnx.ModelProto, batch: np.ndarray, optimize: bool) -> np.ndarray:
    """Unoptimized, the engine would prepare (pack) constant weights of a Gemm for another kernel,
    which sums in another order: that is turned off, to compare what the files say.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in batch])


@pytest.mark.parametrize("name", NETS)
def test_every_net_pruned_and_shared_gives_the_bits_of_the_plain_file(name: str) -> None:
    """Folded after sharing, so that the codes carry a scale for each channel, some negative."""
    spec, bits = NETS[name]
    task = digits_task()
    net = PruneMagnitude(0.6)(lively(spec), task).candidate
    net = ShareWeights(bits, method="linear")(net, task).candidate
    net = FoldBatchNorm()(net, task).candidate
    for profile in PROFILES if name == "resnet20" else ("compatible",):
        plain = build_model(net, PROFILES[profile])
        small = copy.deepcopy(plain)
        pack(small, net.encodings, nibbles=profile == "modern")
        onnx.checker.check_model(small, full_check=True)
        assert small.ByteSize() < 0.5 * plain.ByteSize()
        pictures = np.random.default_rng(0).normal(size=spec.input_shape).astype(np.float32)
        for optimize in (True, False):
            expected = outputs(plain, pictures, optimize)
            assert np.isfinite(expected).all()
            assert expected.any()
            assert outputs(small, pictures, optimize).tobytes() == expected.tobytes()


@functools.cache
def shared(spec: Callable[[], ModelSpec] = digits_residual_spec, bits: int = 4) -> Candidate:
    task = trained(spec).task
    pruned = PruneMagnitude(0.85)(folded(spec), task).candidate
    return ShareWeights(bits)(pruned, task).candidate


@functools.cache
def integer() -> Candidate:
    """int8 activations; the weights are pruned, shared and on a grid."""
    return QuantizeInt8()(shared(digits_branch_spec), trained(digits_branch_spec).task).candidate


def folded_by_the_engine(path: Path, level: str, folder: Path) -> onnx.GraphProto:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx").graph


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
def test_the_engine_folds_it_into_the_plain_net(level: str, tmp_path: Path) -> None:
    candidate = shared()
    path = exported(PACKED, candidate).path
    assert {"Gather", "Max", "CumSum"} <= {n.op_type for n in onnx.load(path).graph.node}
    after = folded_by_the_engine(path, level, tmp_path)
    before = folded_by_the_engine(written(candidate).path, level, tmp_path)
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
    after = folded_by_the_engine(artifact.path, "ORT_ENABLE_EXTENDED", tmp_path)
    before = folded_by_the_engine(plain.path, "ORT_ENABLE_EXTENDED", tmp_path)
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


def test_packing_twice_changes_nothing() -> None:
    candidate = shared()
    once = float_model(candidate, 18)
    pack(once, candidate.encodings)
    twice = copy.deepcopy(once)
    pack(twice, candidate.encodings)
    assert (
        outputs(twice, PICTURES[:2], True).tobytes() == outputs(once, PICTURES[:2], True).tobytes()
    )
