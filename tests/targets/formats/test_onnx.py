from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.candidate import ActivationQuant, Candidate
from compress.checkpoint import load_candidate, save_candidate
from compress.encoding import Encoded, Masked
from compress.errors import ExportError, RangeError
from compress.graph import TensorId
from compress.simulate import int32_bias
from compress.stages.prune_magnitude import PruneMagnitude
from targets.artifact import file_sha256
from targets.equivalence import assert_equivalent
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_graph import float_model
from targets.formats.onnx_grids import find_grids
from targets.metadata import KEY, read_metadata
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, trained
from tests.forked import Forked
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec
from tests.onnx_files import EXPORTER, Spec, folded, quantized, values, written

PICTURES = digits()["validation"].images[:32]


def model_of(candidate: Candidate, exporter: OnnxExporter = EXPORTER) -> onnx.ModelProto:
    return onnx.load_from_string(written(candidate, exporter).path.read_bytes())


def test_artifact_says_what_was_written() -> None:
    candidate = trained(digits_residual_spec).candidate
    artifact = written(candidate)
    assert (artifact.format, artifact.precision) == ("onnx", "fp32")
    assert artifact.sha256 == file_sha256(artifact.path)
    assert artifact.size_bytes == artifact.path.stat().st_size
    assert artifact.candidate_digest == candidate.digest()
    session = OnnxRuntime().load(artifact.path)
    assert session.inputs == artifact.inputs
    assert session.outputs == artifact.outputs
    assert [(i.name, i.shape) for i in artifact.inputs] == [("input", (1, 1, 8, 8))]
    assert [(o.name, o.shape) for o in artifact.outputs] == [("logits", (1, 10))]


def test_file_holds_the_net_and_nothing_of_the_tools() -> None:
    candidate = trained(digits_residual_spec).candidate
    model = model_of(candidate)
    assert [entry.key for entry in model.metadata_props] == [KEY]
    found = read_metadata(model.metadata_props[0].value)
    assert found.digest == candidate.digest()
    assert found.preprocess == candidate.spec.preprocess
    assert found.classes == candidate.spec.classes
    assert not model.graph.value_info
    assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
    assert {n.op_type for n in model.graph.node} <= {
        "Conv", "Relu", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"
    }  # fmt: skip
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    weights = sum(p.size for p in folded(digits_residual_spec).network.parameters().values())
    assert sum(int(np.prod(t.dims)) for t in floats) == weights


def test_pruned_zeros_reach_the_file() -> None:
    candidate, task = folded(digits_residual_spec), trained(digits_residual_spec).task
    pruned = PruneMagnitude(sparsity=0.5)(candidate, task).candidate
    artifact = written(pruned)
    assert artifact.precision == "pruned"
    model = model_of(pruned)
    masks = {n: e for n, e in pruned.encodings.items() if isinstance(e, Masked)}
    assert len(masks) > 3
    for name, encoding in masks.items():
        assert np.array_equal(values(model, name) == 0, encoding.zeros())
    assert_equivalent(pruned, artifact, OnnxRuntime(), PICTURES)


def test_integers_of_the_file_are_those_of_the_candidate() -> None:
    candidate = quantized(digits_branch_spec)
    model = model_of(candidate)
    parameters = candidate.network.parameters()
    layers = {n.parameters["weight"]: n for n in candidate.network.graph.nodes if n.parameters}
    for name, encoding in candidate.encodings.items():
        assert isinstance(encoding, Encoded)
        assert np.array_equal(values(model, f"{name}_grid_codes"), encoding.integers())
        assert np.array_equal(values(model, f"{name}_grid_scale"), encoding.scale)
        (product,) = [n for n in model.graph.node if f"{name}_grid" in n.input]
        grid = candidate.activations[layers[name].inputs[0]]
        bias = parameters[layers[name].parameters["bias"]]
        expected = int32_bias(bias, float(np.float32(grid.scale)), encoding.scale)
        assert np.array_equal(values(model, product.input[2] + "_codes"), expected)
    used = {np.float32(g.scale) for g in candidate.activations.values()}
    scalars = [t for t in model.graph.initializer if t.name.startswith("scale_")]
    assert {values(model, t.name).item() for t in scalars} == {s.item() for s in used}


def optimized(candidate: Candidate, folder: Path) -> list[str]:
    """The operators that onnxruntime runs in place of the file's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        str(written(candidate).path), options, providers=["CPUExecutionProvider"]
    )
    return [n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node]


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec, digits_plain_spec])
def test_the_engine_runs_integers_from_end_to_end(spec: Spec, tmp_path: Path) -> None:
    """One Quantize at the beginning, one Dequantize at the end, integer kernels between."""
    kinds = optimized(quantized(spec), tmp_path)
    layers = len(quantized(spec).network.layers())
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 1
    assert kinds.count("QLinearConv") + kinds.count("QGemm") == layers
    assert not {"Conv", "Gemm", "Add", "Concat", "Relu", "Clip", "GlobalAveragePool"} & set(kinds)


def test_int8_activations_are_the_same_grid() -> None:
    candidate = quantized(digits_branch_spec)
    signed = OnnxExporter(activation_type="int8")
    kinds = {t.data_type for t in model_of(candidate, signed).graph.initializer}
    assert onnx.TensorProto.UINT8 not in kinds
    assert onnx.TensorProto.UINT8 in {t.data_type for t in model_of(candidate).graph.initializer}
    assert_equivalent(candidate, written(candidate, signed), OnnxRuntime(), PICTURES)


def test_layers_kept_in_float_stay_float(tmp_path: Path) -> None:
    candidate = quantized(digits_residual_spec, ("conv1", "fc"))
    model = model_of(candidate)
    names = {t.name for t in model.graph.initializer}
    assert {"conv1.weight", "fc.weight", "conv2.weight_grid_codes"} <= names
    assert "conv1.weight_grid_codes" not in names
    assert_equivalent(candidate, written(candidate), OnnxRuntime(), PICTURES)
    # The engine alone would quantize conv1, whose input and output have grids: not so here.
    kinds = optimized(candidate, tmp_path)
    assert kinds.count("Conv") + kinds.count("FusedConv") == 1
    assert "Gemm" in kinds


def test_newest_opset_computes_the_same() -> None:
    candidate = quantized(digits_residual_spec)
    newest = written(candidate, OnnxExporter(opset=21))
    before = OnnxRuntime().load(written(candidate).path).predict(PICTURES)
    assert np.array_equal(OnnxRuntime().load(newest.path).predict(PICTURES), before)


@pytest.mark.parametrize("top", [3.0, 9.0])
def test_grid_that_does_not_end_where_the_activation_does(top: float) -> None:
    """A zero point above 0, as ties bring, and an upper end below or above 6: Clip of integers."""
    candidate = quantized(digits_branch_spec)
    tensor = next(t for t in candidate.activations if str(t) == "last.2/relu#0")
    stem = next(t for t in candidate.activations if t.operator == "hardtanh")
    tie = next((tie for tie in candidate.ties if stem in tie), frozenset({stem}))
    other = ActivationQuant((top + 0.5) / 255, 17)
    grids = {
        t: other if t == tensor or t in tie else grid for t, grid in candidate.activations.items()
    }
    changed = replace(candidate, activations=grids)
    changed.check()
    assert "Clip" in {n.op_type for n in model_of(changed).graph.node}
    assert_equivalent(changed, written(changed), OnnxRuntime(), PICTURES)


def test_dead_tensors_are_told_by_name() -> None:
    """A ReLU that gives only zeros has values that identify nothing."""
    candidate = folded(digits_plain_spec)
    dead = {"fc1.bias": np.full(40, -1000, np.float32)}
    killed = candidate.with_values(dead, {})
    relu = next(n.id for n in killed.network.graph.nodes if n.id.operator == "relu")
    killed = replace(killed, activations={relu: ActivationQuant(1.0, 0)})
    assert list(find_grids(killed, float_model(killed, 18)).values()) == [ActivationQuant(1.0, 0)]


def export_elsewhere(arguments: list[str]) -> None:
    source, target = map(Path, arguments)
    OnnxExporter()(load_candidate(source, digits_branch_spec()), target)


def test_equal_candidates_give_equal_bytes_in_silence(tmp_path: Path) -> None:
    """Once more here, and in another process with another order of its sets."""
    candidate = quantized(digits_branch_spec)
    first = written(candidate)
    assert OnnxExporter()(candidate, tmp_path / "again.onnx").sha256 == first.sha256
    save_candidate(candidate, tmp_path / "net.safetensors")
    other = Forked(export_elsewhere, tmp_path / "net.safetensors", tmp_path / "other.onnx")
    assert other.communicate(timeout=240) == ("", "")
    assert other.returncode == 0
    assert file_sha256(tmp_path / "other.onnx") == first.sha256


def test_unfolded_encoded_candidate_is_refused(tmp_path: Path) -> None:
    candidate, task = trained(digits_residual_spec)
    pruned = PruneMagnitude(sparsity=0.5)(candidate, task).candidate
    path = tmp_path / "net.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"'stem\.1' is not folded.*put FoldBatchNorm first"):
        OnnxExporter()(pruned, path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(RangeError, match=r"\(opset=17\): allowed are 18, 19, 20, 21"):
        OnnxExporter(opset=17)
    with pytest.raises(
        RangeError, match=r"\(activation_type='int4'\): allowed are 'uint8', 'int8'"
    ):
        OnnxExporter(activation_type="int4")  # type: ignore[arg-type]


def test_grids_of_other_widths_are_refused() -> None:
    candidate = folded(digits_plain_spec)
    grid = {TensorId("", "input"): ActivationQuant(0.1, 0, bits=4)}
    with pytest.raises(ExportError, match="/input#0 has a grid of 4 bits; an ONNX file holds 8"):
        find_grids(replace(candidate, activations=grid), float_model(candidate, 18))


def test_a_tensor_that_the_graph_lacks_is_named() -> None:
    """The graph of another net has the input and nothing else of this one."""
    other = float_model(folded(digits_plain_spec), 18)
    with pytest.raises(ExportError, match=r"tensor stem\.2/relu#0 has a grid, but nothing"):
        find_grids(quantized(digits_residual_spec), other)
