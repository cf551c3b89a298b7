"""edgepress compare: answers, tensors and grids of two files, whatever their formats."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.errors import EquivalenceError
from compress.stages.quantize_int8 import QuantizeInt8
from targets.file_difference import answer_difference, grid_comparison, tensor_differences
from targets.file_grids import FileGrid, FileGrids, file_grids
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.pairing import pair_tensors
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import trained
from tests.exports import exported
from tests.nets import digits_residual_spec
from tests.onnx_files import folded, quantized
from tests.recipes.answering import (
    BAD_MODELS,
    PICTURES,
    changed,
    folder,
    foreign_file,
    fp32_file,
    int8_file,
    logits,
    refused,
    spoilt_container,
    spoilt_file,
    told,
)


@functools.cache
def tflite_file() -> Path:
    pytest.importorskip("litert_torch", reason="needs pip install 'edgepress[tflite]'")
    return exported(TFLiteExporter(), quantized(digits_residual_spec)).path


@functools.cache
def other_scale() -> Path:
    """The int8 net with a scale of a quarter at one activation, which clips most of its values."""

    def change(model: onnx.ModelProto) -> None:
        constants = {i.name: i for i in model.graph.initializer}
        node = next(n for n in model.graph.node if "relu_3" in n.output)
        scale = numpy_helper.to_array(constants[node.input[1]]) * np.float32(0.25)
        constants[node.input[1]].CopyFrom(
            numpy_helper.from_array(np.asarray(scale, np.float32), node.input[1])
        )

    return changed(int8_file(), change)


def test_answers_are_those_of_the_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "compare", fp32_file(), int8_file(), "--data", folder())
    first, answers, agreement, divergence = out.splitlines()
    assert first.endswith(f"on {PICTURES} pictures of {folder()}")
    ours, theirs = logits(fp32_file()), logits(int8_file())
    noise = ours.astype(np.float64) - theirs
    db = 10 * np.log10((ours.astype(np.float64) ** 2).sum() / (noise**2).sum())
    assert answers.startswith(f"answers    SQNR {db:.1f} dB, largest difference ")
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    assert agreement == (
        f"agreement  {same / PICTURES:.2%} of the first classes, {same} of {PICTURES}"
    )
    assert divergence.startswith("divergence ")
    drawn = told(capsys, "compare", fp32_file(), int8_file()).splitlines()
    assert drawn[-1].endswith("give some by --data")


def test_fp32_and_int8_part_by_rounding_alone(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("compare", fp32_file(), int8_file(), "--layers", "--data", folder())
    out = told(capsys, *asked)
    assert "logits" in out
    assert "grids      not compared: not both are integer files" in out
    found = json.loads(told(capsys, *asked, "--json"))
    assert found["pictures"] == f"{PICTURES} pictures of {folder()}"
    tensors = found["tensors"]
    assert [t["name"] for t in tensors] == [t["other"] for t in tensors]
    assert {"input", "relu", "max_pool2d", "logits"} <= {t["name"] for t in tensors}
    assert all(t["unit"] is not None and t["same_grid"] is None for t in tensors)
    assert all(t["sqnr_db"] > 20 for t in tensors if t["sqnr_db"] is not None)
    assert "\ntensors on the first 4 of them:\n" in out
    first = found["parts_first"]
    named = [t["name"] for t in tensors if t["parts"]]
    assert first == (named[0] if named else None)
    said = "they part nowhere" if first is None else f"they part first at {first}: "
    assert said in out


def test_both_formats_carry_the_same_grids(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "compare", int8_file(), tflite_file(), "--layers")
    assert "random inputs in [0, " in out.splitlines()[0]
    layers = len(quantized(digits_residual_spec).network.layers())
    assert "they part nowhere" in out
    assert "inner tensors of a .tflite file are LiteRT's built-in kernels'" in out
    assert out.splitlines()[-1].startswith("grids      all the same: scales and zero points of ")
    assert out.splitlines()[-1].endswith(f"tensors and of {layers} layers' weights")
    found = json.loads(told(capsys, "compare", int8_file(), tflite_file(), "--layers", "--json"))
    assert found["grids"]["tensors"] >= 8
    assert found["grids"]["differences"] == []
    assert found["tensors"][0]["same_grid"] is True
    assert found["answers"]["top1_agreement"] == 1.0
    turned = json.loads(told(capsys, "compare", tflite_file(), int8_file(), "--layers", "--json"))
    assert [(t["other"], t["name"]) for t in turned["tensors"]] == [
        (t["name"], t["other"]) for t in found["tensors"]
    ]


def test_another_scale_is_named_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "compare", int8_file(), other_scale(), "--layers", "--data", folder())
    assert "they part first at relu_3: " in out
    assert "the SQNR falls most from " in out
    assert "to relu_3, " in out
    scale = file_grids(int8_file()).activations["relu_3"].scale
    assert "grids      1 differ, of " in out
    assert f"\n  relu_3: scale {scale:.6g}, zero point 0 and scale {0.25 * scale:.6g}" in out


def test_other_weight_scales_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def change(model: onnx.ModelProto) -> None:
        constants = {i.name: i for i in model.graph.initializer}
        node = next(
            n
            for n in model.graph.node
            if n.op_type == "DequantizeLinear" and len(constants.get(n.input[1], n).dims) == 1  # type: ignore[union-attr]
        )
        scales = numpy_helper.to_array(constants[node.input[1]]).copy()
        scales[:2] *= 2
        constants[node.input[1]].CopyFrom(numpy_helper.from_array(scales, node.input[1]))

    found = json.loads(
        told(capsys, "compare", int8_file(), changed(int8_file(), change), "--layers", "--json")
    )
    (difference,) = found["grids"]["differences"]
    assert difference["what"].startswith("2 of ")
    assert difference["what"].endswith(" scales differ")
    assert found["parts_first"] is not None


def test_containers_and_files_that_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "compare", spoilt_container(), spoilt_file(), "--layers")
    assert "pictures of random pixels, prepared as the files say" in out
    assert "answers    the same, to the last bit" in out
    assert "they part nowhere: their answers are the same" in out
    assert "LiteRT" not in out


def test_files_of_other_makers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    grey = tmp_path / "grey.json"
    grey.write_text('{"channel_order": "GREY"}')
    other = changed(foreign_file(), lambda model: model.graph.node[0].ClearField("doc_string"))
    out = told(capsys, "compare", foreign_file(), other)
    assert "16 random inputs in [0, 1], as the files do not say what they take" in out
    assert "to the last bit" in out
    said = refused(capsys, "compare", foreign_file(), other, "--data", folder())
    assert "add --preprocess" in said
    asked = ("compare", foreign_file(), other, "--data", folder(), "--preprocess", grey)
    assert f"on {PICTURES} pictures" in told(capsys, *asked)
    assert "on 7 pictures" in told(capsys, *asked, "--most", 7)


def test_where_all_likeness_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def turn(model: onnx.ModelProto) -> None:
        weight = next(i for i in model.graph.initializer if "fc.weight" in i.name)
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))

    other = changed(fp32_file(), turn)
    out = told(capsys, "compare", fp32_file(), other, "--layers", "--data", folder())
    assert "\nbehind mean nothing in the one file is like anything in the other\n" in out
    alike = told(capsys, "compare", int8_file(), fp32_file(), "--layers", "--data", folder())
    assert "nothing in the one file" not in alike


def test_what_cannot_be_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, "compare", fp32_file(), fp32_file())
    assert "is given twice" in said
    for name, content, words in BAD_MODELS[:4]:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert words in refused(capsys, "compare", fp32_file(), path)
    with pytest.raises(EquivalenceError, match="put out 3 and 4 numbers a picture"):
        answer_difference(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))


def test_answers_that_are_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        bias = next(i for i in model.graph.initializer if "fc.bias" in i.name)
        values = np.full(tuple(bias.dims), np.nan, np.float32)
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))

    said = refused(capsys, "compare", fp32_file(), changed(fp32_file(), spoil))
    assert "puts out what is no number" in said


def test_tensors_are_paired_in_order_and_in_any_layout() -> None:
    rng = np.random.default_rng(0)
    first, second, third = (rng.normal(size=(2, 3, 4, 4)).astype(np.float32) for _ in range(3))
    head = rng.normal(size=(2, 5)).astype(np.float32)
    ours = {"a": first, "b": second, "only": third, "flat": np.ones((2, 5), np.float32), "c": head}
    turned = second.transpose(0, 2, 3, 1) + np.float32(1e-3)
    theirs = {"x": first.transpose(0, 2, 3, 1), "y": turned, "const": np.ones((2, 5)), "z": head}
    found = pair_tensors(ours, theirs)
    assert [(a, b) for a, b, _ in found] == [("a", "x"), ("b", "y"), ("c", "z")]
    assert np.array_equal(found[0][2], first)
    assert np.allclose(found[1][2], second + np.float32(1e-3))
    swapped = pair_tensors(theirs, ours)
    assert [(b, a) for a, b, _ in swapped] == [("a", "x"), ("b", "y"), ("c", "z")]


def test_what_is_only_somewhat_alike_is_no_pair() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(2, 3, 4, 4)).astype(np.float32) + np.float32(1)
    after = np.maximum(before, 0)
    last = rng.normal(size=(2, 3)).astype(np.float32)
    found = pair_tensors({"conv": before, "end": last}, {"relu": after, "end": last})
    assert [a for a, _, _ in found] == ["end"]
    # Where all behind it differs as much, it is the same tensor gone wrong.
    wrong = last + rng.normal(size=(2, 3)).astype(np.float32) * np.float32(0.4)
    found = pair_tensors({"conv": before, "end": last}, {"relu": after, "end": wrong})
    assert [a for a, _, _ in found] == ["conv", "end"]


def test_grids_that_hardly_differ_are_told_apart() -> None:
    one, other = (FileGrid(float(np.float32(s)), 3) for s in (0.0245407, 0.02454071))
    tensors = {"a": np.arange(8, dtype=np.float32).reshape(2, 4)}
    ours, theirs = (FileGrids({"a": grid}, ()) for grid in (one, other))
    found = tensor_differences((tensors, ours), (tensors, theirs))
    (difference,) = grid_comparison(found, ours, theirs).differences
    first, second = difference.what.split(" and ")
    assert first.startswith("scale 0.024540")
    assert first.endswith(", zero point 3")
    assert first != second


def test_grids_with_scales_in_vectors_and_weights_in_4_bits(tmp_path: Path) -> None:
    """Other makers' files hold a tensor's scale as a vector of one."""

    def change(model: onnx.ModelProto) -> None:
        kinds = ("QuantizeLinear", "DequantizeLinear")
        read = {i for n in model.graph.node if n.op_type in kinds for i in n.input[1:]}
        for tensor in model.graph.initializer:
            if tensor.name in read and not tensor.dims:
                tensor.dims.append(1)

    vectors = changed(int8_file(), change)
    assert vectors.read_bytes() != int8_file().read_bytes()
    assert file_grids(vectors).activations == file_grids(int8_file()).activations
    task = trained(digits_residual_spec).task
    candidate = QuantizeInt8(weight_bits=4)(folded(digits_residual_spec), task).candidate
    nibbles, whole = (
        file_grids(OnnxExporter(opset=n)(candidate, tmp_path / f"{n}.onnx").path) for n in (21, 18)
    )
    assert len(nibbles.weights) == len(whole.weights) == len(candidate.network.layers())


def test_grids_of_a_float_file_are_none() -> None:
    found = file_grids(fp32_file())
    assert found.activations == {}
    assert found.weights == ()


def test_grids_are_those_of_the_candidate() -> None:
    candidate = quantized(digits_residual_spec)
    found = file_grids(int8_file())
    grids = {(g.scale, g.zero_point) for g in candidate.activations.values()}
    assert {(np.float32(g.scale), g.zero_point) for g in found.activations.values()} == {
        (np.float32(s), z) for s, z in grids
    }
    names = set(OnnxRuntime().load(int8_file()).tensors(np.zeros((1, 1, 8, 8), np.float32)))
    assert set(found.activations) <= names | {"input_grid"}
    assert len(found.weights) == len(candidate.network.layers())
