from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from compress.candidate import Candidate
from compress.errors import EquivalenceError
from compress.graph import TensorId
from targets.artifact import Artifact
from targets.equivalence import Tolerance, assert_equivalent, compare
from targets.local_check import first_parting, layouts, local_errors
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, trained
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec
from tests.onnx_files import Spec, folded, put, quantized, tampered, values, written

SPECS = [digits_residual_spec, digits_branch_spec, digits_plain_spec]
PICTURES = digits()["validation"].images[:32]


@pytest.mark.parametrize("spec", SPECS)
def test_float_files_compute_what_the_net_computes(spec: Spec) -> None:
    candidate = trained(spec).candidate
    found = assert_equivalent(candidate, written(candidate), OnnxRuntime(), PICTURES)
    assert found.samples == 32
    assert found.top1_agreement == 1.0
    assert found.relative_error < 1e-5
    assert found.sqnr_db > 100


@pytest.mark.parametrize("spec", SPECS)
def test_integer_files_compute_what_the_simulation_computes(spec: Spec) -> None:
    """To the integer, on nets as small as these."""
    candidate = quantized(spec)
    found = assert_equivalent(candidate, written(candidate), OnnxRuntime(), PICTURES)
    grid = candidate.activations[candidate.network.graph.outputs[0]]
    assert found.max_error <= 1.01 * grid.scale
    assert found.noise_ratio is None


def test_another_candidate_is_no_twin() -> None:
    """The float net is not what the int8 file computes."""
    other = quantized(digits_residual_spec)
    with pytest.raises(
        EquivalenceError, match=r"net\.onnx parts from its candidate at stem\.0/conv2d#0"
    ):
        assert_equivalent(folded(digits_residual_spec), written(other), OnnxRuntime(), PICTURES)


def test_nothing_to_compare_on() -> None:
    candidate = trained(digits_plain_spec).candidate
    with pytest.raises(EquivalenceError, match="no pictures"):
        compare(candidate, written(candidate), OnnxRuntime(), PICTURES[:0])


def test_a_tolerance_can_be_asked_for() -> None:
    candidate = trained(digits_residual_spec).candidate
    with pytest.raises(EquivalenceError, match=r"at no single layer.* 1e-12 is allowed"):
        assert_equivalent(
            candidate, written(candidate), OnnxRuntime(), PICTURES, Tolerance(relative_error=1e-12)
        )


def _blamed(
    candidate: Candidate, change: Callable[[onnx.ModelProto], None], path: Path
) -> tuple[str, str]:
    """(module path, whole message) of the tensor that the search names."""
    broken: Artifact = tampered(written(candidate), change, path / "broken.onnx")
    with pytest.raises(EquivalenceError) as raised:
        assert_equivalent(candidate, broken, OnnxRuntime(), PICTURES)
    message = str(raised.value)
    assert "\n" not in message
    return message.partition(" at ")[2].partition("/")[0], message


def _flip_largest(weight: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """The weight that matters most with its sign turned; not one of a pixel that is always 0."""
    lit = PICTURES.mean(0).reshape(-1) > 0.2 if weight.shape[1:] == (64,) else np.float32(1)
    matters = np.abs(weight.astype(np.float32)) * lit
    if scale is not None:
        matters *= scale.reshape(-1, *(1,) * (weight.ndim - 1))
    weight[np.unravel_index(matters.argmax(), weight.shape)] *= -1
    return weight


# The folded nets' layers: an early, a middle and the last one; depthwise among the branch net's.
FLOAT_CASES = [
    *((digits_residual_spec, name) for name in ("stem.0", "conv2", "widen.0", "fc")),
    *((digits_branch_spec, name) for name in ("stem.0", "units.0.branch.3", "last.0", "fc")),
    *((digits_plain_spec, name) for name in ("fc1", "fc2")),
]
IDS = [f"{spec.__name__}-{name}" for spec, name in FLOAT_CASES]


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
def test_float_wrong_weight_is_blamed_on_its_layer(spec: Spec, layer: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        put(model, f"{layer}.weight", _flip_largest(values(model, f"{layer}.weight")))

    blamed, message = _blamed(folded(spec), change, tmp_path)
    assert blamed == layer
    assert "file's tensor" in message
    assert "0.0001 is allowed" in message


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
def test_float_missing_bias_is_blamed_on_its_layer(spec: Spec, layer: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        put(model, f"{layer}.bias", np.zeros_like(values(model, f"{layer}.bias")))

    assert _blamed(folded(spec), change, tmp_path)[0] == layer


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
def test_float_swapped_channels_are_blamed_on_their_layer(
    spec: Spec, layer: str, tmp_path: Path
) -> None:
    """The same values in another order: what is compared is elements, not their distribution."""

    def change(model: onnx.ModelProto) -> None:
        for kind in ("weight", "bias"):
            array = values(model, f"{layer}.{kind}")
            array[[0, 1]] = array[[1, 0]]
            put(model, f"{layer}.{kind}", array)

    assert _blamed(folded(spec), change, tmp_path)[0] == layer


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
def test_integer_wrong_weight_is_blamed_on_its_layer(
    spec: Spec, layer: str, tmp_path: Path
) -> None:
    def change(model: onnx.ModelProto) -> None:
        name = f"{layer}.weight_grid_codes"
        scale = values(model, f"{layer}.weight_grid_scale")
        put(model, name, _flip_largest(values(model, name), scale))

    assert _blamed(quantized(spec), change, tmp_path)[0] == layer


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
@pytest.mark.parametrize("factor", [0.5, 1.1])
def test_integer_wrong_weight_scale_is_blamed_on_its_layer(
    spec: Spec, layer: str, factor: float, tmp_path: Path
) -> None:
    def change(model: onnx.ModelProto) -> None:
        name = f"{layer}.weight_grid_scale"
        put(model, name, values(model, name) * np.float32(factor))

    assert _blamed(quantized(spec), change, tmp_path)[0] == layer


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
@pytest.mark.parametrize("steps", [0.2, -0.2])
def test_integer_shifted_biases_are_blamed_on_the_first(
    spec: Spec, layer: str, steps: float, tmp_path: Path
) -> None:
    """A fifth of a step from `layer` on: no element is more than a step off, a fifth of them is."""
    candidate = quantized(spec)
    names = [found.name for found in candidate.network.layers()]
    graph = candidate.network.graph
    shifted = set(names[names.index(layer) :])

    def change(model: onnx.ModelProto) -> None:
        for node in graph.nodes:
            name = node.parameters.get("weight", "").removesuffix(".weight")
            if name not in shifted:
                continue
            reader = graph.feeds_only(node.id)
            grid = candidate.activations.get(node.id)
            grid = grid or candidate.activations[reader.id if reader else node.id]
            product = _reader_of(model, f"{name}.weight_grid_codes")
            (source,) = [n for n in model.graph.node if product.input[2] in n.output]
            unit = values(model, source.input[1]).astype(np.float64)
            codes = values(model, source.input[0])
            put(model, source.input[0], codes + np.rint(steps * grid.scale / unit).astype(np.int32))

    assert _blamed(candidate, change, tmp_path)[0] == layer


def test_few_elements_may_part_only_where_values_lie_between_two_steps() -> None:
    """Sums of two and means often do; what has weights does not, but by its own multiplier."""
    candidate = quantized(digits_residual_spec)
    few = PICTURES[:4]
    tensors = OnnxRuntime().load(written(candidate).path).tensors(few)
    found = local_errors(candidate, tensors, few)
    allowed = {t.module or t.operator: local.allowed for t, local in found.items()}
    assert all(local.off <= local.allowed for local in found.values() if local.in_steps)
    # Not the operator that rounds decides, but what it rounds: the second relu is that of the add.
    assert [t for t, local in found.items() if local.allowed > 0.3] == [
        TensorId("", "relu", 1),
        TensorId("", "mean"),
    ]
    assert allowed["stem.2"] < 0.05
    assert allowed["widen.2"] < 0.05


def _reader_of(model: onnx.ModelProto, constant: str) -> onnx.NodeProto:
    """The layer behind the constant's Pad, where it has one, and DequantizeLinear."""
    (node,) = [n for n in model.graph.node if constant in n.input]
    while node.op_type in ("Pad", "DequantizeLinear"):
        (node,) = [n for n in model.graph.node if node.output[0] in n.input]
    return node


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
def test_integer_missing_bias_is_blamed_on_its_layer(
    spec: Spec, layer: str, tmp_path: Path
) -> None:
    def change(model: onnx.ModelProto) -> None:
        node = _reader_of(model, f"{layer}.weight_grid_codes")
        del node.input[2:]

    assert _blamed(quantized(spec), change, tmp_path)[0] == layer


@pytest.mark.parametrize(("spec", "layer"), FLOAT_CASES, ids=IDS)
def test_integer_wrong_grid_is_blamed_on_its_tensor(spec: Spec, layer: str, tmp_path: Path) -> None:
    """Ten percent more on the scale of what the layer gives: less exact, and hardly seen behind."""

    def change(model: onnx.ModelProto) -> None:
        product = _reader_of(model, f"{layer}.weight_grid_codes")
        (quantize,) = [n for n in model.graph.node if product.output[0] in n.input]
        tensor = next(t for t in model.graph.initializer if t.name == quantize.input[1])
        other = onnx.TensorProto()
        other.CopyFrom(tensor)
        other.name = "other_scale"
        model.graph.initializer.append(other)
        put(model, "other_scale", values(model, tensor.name) * np.float32(1.1))
        codes = {quantize.output[0]}
        for node in model.graph.node:
            if node.op_type == "Clip" and set(node.input) & codes:
                codes |= set(node.output)
        for node in model.graph.node:
            if node.op_type.endswith("eLinear") and (node is quantize or set(node.input) & codes):
                node.input[1] = "other_scale"

    assert _blamed(quantized(spec), change, tmp_path)[0] == layer


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_swapped_halves_of_a_concatenation_are_noticed(kind: str, tmp_path: Path) -> None:
    """An operator without weights: the layer that reads the wrong order is named at the latest."""
    make = folded if kind == "float" else quantized

    def change(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.op_type == "Concat")
        first, second = node.input
        node.input[0], node.input[1] = second, first

    blamed, _ = _blamed(make(digits_branch_spec), change, tmp_path)
    assert blamed in ("units.0", "units.2", "units.2.branch.0")


def test_a_swapped_picture_channel_is_blamed_on_the_first_layer(tmp_path: Path) -> None:
    """A file that mirrors its input computes everything right, of another picture."""

    def change(model: onnx.ModelProto) -> None:
        spec = "indices"
        model.graph.initializer.append(
            helper.make_tensor(spec, onnx.TensorProto.INT64, [8], list(range(7, -1, -1)))
        )
        first = next(n for n in model.graph.node if "input" in n.input)
        for position, name in enumerate(first.input):
            if name == "input":
                first.input[position] = "mirrored"
        model.graph.node.insert(
            0, helper.make_node("Gather", ["input", spec], ["mirrored"], axis=3)
        )

    assert _blamed(folded(digits_residual_spec), change, tmp_path)[0] == "stem.0"


def test_outputs_that_are_not_numbers_are_no_match(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        put(model, "fc.bias", np.full_like(values(model, "fc.bias"), np.nan))

    assert _blamed(folded(digits_residual_spec), change, tmp_path)[0] == "fc"


def test_local_errors_of_a_right_file_stay_within_a_step() -> None:
    candidate = quantized(digits_branch_spec)
    session = OnnxRuntime().load(written(candidate).path)
    few = PICTURES[:4]
    found = local_errors(candidate, session.tensors(few), few)
    assert first_parting(candidate, found) is None
    # Every tensor with a grid is in the file; nothing was let off for want of a twin.
    assert [t for t in candidate.activations if not found[t].right] == []


def test_a_file_without_any_tensor_parts_at_its_first() -> None:
    candidate = folded(digits_plain_spec)
    found = local_errors(candidate, {}, PICTURES[:2])
    parting = first_parting(candidate, found)
    assert parting is not None
    assert parting.tensor == TensorId("", "input")
    assert "no tensor of its size" in str(parting)


def test_nets_of_fixed_batch_are_searched_too(tmp_path: Path) -> None:
    candidate = folded(digits_plain_spec)
    fixed = replace(candidate)
    object.__setattr__(fixed.network.graph, "dynamic_batch", False)
    try:

        def change(model: onnx.ModelProto) -> None:
            put(model, "fc2.bias", np.ones_like(values(model, "fc2.bias")))

        assert _blamed(fixed, change, tmp_path)[0] == "fc2"
    finally:
        object.__setattr__(candidate.network.graph, "dynamic_batch", True)


def test_layouts_find_other_axes_and_nothing_of_another_size() -> None:
    value = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    forms = list(layouts(value.transpose(0, 2, 3, 1), value.shape))
    assert any(np.array_equal(form, value) for form in forms)
    flat = list(layouts(value.transpose(0, 2, 3, 1), (2, 60)))
    assert any(np.array_equal(form, value.reshape(2, 60)) for form in flat)
    assert list(layouts(value, (2, 3, 4, 6))) == []
    assert list(layouts(value, (4, 3, 2, 5))) == []
    pooled = value[:, :, :1, :1]
    assert next(layouts(pooled, (2, 3))).shape == (2, 3)
