"""The .tflite files hold exactly the candidate: weights, zeros, clusters, grids, arithmetic."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import ActivationQuant, Candidate
from compress.checkpoint import load_candidate, save_candidate
from compress.encoding import Encoded
from compress.errors import DataError, ExportError, MissingExtraError, RangeError
from compress.graph import TensorId
from compress.simulate import int32_bias, simulate
from compress.spec import ModelSpec, TensorSpec
from compress.stage import Stage
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from targets.artifact import Artifact
from targets.equivalence import assert_equivalent
from targets.formats import reweighing, tflite_convert, tflite_plan
from targets.formats.tflite import TFLiteExporter
from targets.formats.tflite_schema import Source, names_of, schema, tflite_metadata
from targets.local_check import first_parting, local_errors
from targets.runtimes.litert import LiteRtRuntime
from tests.digits import Trained, digits
from tests.forked import Forked
from tests.nets import digits_residual_spec

INT8 = 127


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def apply(net: Trained, *stages: Stage) -> Candidate:
    candidate = net.candidate
    for stage in stages:
        candidate = stage(candidate, net.task).candidate
    candidate.check()
    return candidate


@pytest.fixture(scope="module")
def floats(trained_branch: Trained, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return TFLiteExporter()(trained_branch.candidate, tmp_path_factory.mktemp("t") / "b.tflite")


Int8 = tuple[Candidate, Artifact]
Int8File = Callable[[str], Int8]


@pytest.fixture(scope="module", params=["residual", "branch", "plain"])
def int8(request: pytest.FixtureRequest, int8_file: Int8File) -> Int8:
    return int8_file(request.param)


def constants(path: Path) -> dict[str, np.ndarray]:
    source = Source(path.read_bytes())
    named = {t.name.decode(): source.constant(i) for i, t in enumerate(source.tensors)}
    return {name: value for name, value in named.items() if value is not None}


def kinds(path: Path) -> list[str]:
    source = Source(path.read_bytes())
    return [source.kind(operator) for operator in source.operators]


def test_float_file_computes_what_the_net_computes(
    floats: Artifact, trained_branch: Trained
) -> None:
    pictures = digits()["test"].images
    assert floats.precision == "fp32"
    assert floats.inputs == (TensorSpec("input", (1, 8, 8, 1), "float32", "NHWC"),)
    assert floats.outputs == (TensorSpec("logits", (1, 10), "float32", "NC"),)
    assert floats.size_bytes == floats.path.stat().st_size
    assert floats.candidate_digest == trained_branch.candidate.digest()
    assert_equivalent(trained_branch.candidate, floats, LiteRtRuntime(), pictures)


def test_int8_file_computes_what_simulate_computes(int8: Int8) -> None:
    candidate, artifact = int8
    pictures = digits()["test"].images
    found = assert_equivalent(candidate, artifact, LiteRtRuntime(), pictures)
    assert found.top1_agreement >= 0.995
    step = candidate.activations[candidate.network.graph.outputs[0]].scale
    given = LiteRtRuntime().load(artifact.path).predict(pictures)
    assert np.abs(given - simulate(candidate).predict(pictures)).max() <= 2.01 * step
    assert artifact.precision == "int8"
    assert artifact.inputs[0].dtype == artifact.outputs[0].dtype == "int8"


def test_every_operator_alone_is_within_a_step(int8: Int8) -> None:
    candidate, artifact = int8
    pictures = digits()["test"].images[:4]
    tensors = LiteRtRuntime().load(artifact.path).tensors(pictures)
    found = local_errors(candidate, tensors, pictures)
    assert first_parting(candidate, found) is None
    gridded = [found[t] for t in candidate.activations]
    assert sum(local.right for local in gridded) > 0.7 * len(gridded)


def test_int8_file_has_exactly_the_candidates_grids(int8: Int8) -> None:
    """The signed convention: code and zero point lower by 128, the scale the same float32."""
    candidate, artifact = int8
    source = Source(artifact.path.read_bytes())
    grids = {str(tensor): grid for tensor, grid in candidate.activations.items()}
    grids["input"] = candidate.activations[TensorId("", "input")]
    grids["logits"] = candidate.activations[candidate.network.graph.outputs[0]]
    seen = 0
    for tensor in source.tensors:
        name = tensor.name.decode().partition(";")[0]
        if name in grids:
            assert tensor.quantization.scale == np.float32(grids[name].scale)
            assert tensor.quantization.zeroPoint == grids[name].zero_point - 128
            seen += 1
    assert seen >= len(source.operators) / 2
    types = {names_of("TensorType")[t.type] for t in source.tensors}
    assert types == {"INT8", "INT32"}


def test_int8_file_has_exactly_the_candidates_integers(int8: Int8) -> None:
    candidate, artifact = int8
    held = constants(artifact.path)
    parameters = candidate.network.parameters()
    by_weight = {n.parameters["weight"]: n for n in candidate.network.graph.nodes if n.parameters}
    for name, encoding in candidate.encodings.items():
        assert isinstance(encoding, Encoded)
        integers = encoding.integers()
        if integers.ndim == 2:
            integers = integers[:, :, None, None]
        depthwise = integers.ndim == 4 and integers.shape[1] == 1
        axes = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        np.testing.assert_array_equal(held[name], integers.transpose(axes))
        layer = name.removesuffix(".weight")
        scale = candidate.activations[by_weight[name].inputs[0]].scale
        wanted = int32_bias(parameters[f"{layer}.bias"], float(np.float32(scale)), encoding.scale)
        np.testing.assert_array_equal(held[f"{layer}.bias"], wanted)


def test_xnnpack_takes_the_whole_int8_file(int8: Int8) -> None:
    """One delegate node beside the file's own: nothing was left between two partitions."""
    session = LiteRtRuntime().load(int8[1].path)
    assert session.provider == "XNNPACK"
    names = [op["op_name"] for op in session._engine._get_ops_details()]
    assert names.count("DELEGATE") == 1
    assert "QUANTIZE" not in names
    assert "DEQUANTIZE" not in names


def test_fully_connected_with_a_scale_a_channel_becomes_a_convolution(
    trained_plain: Trained, int8_file: Int8File, tmp_path: Path
) -> None:
    """Old runtimes misread FULLY_CONNECTED with several scales; with one it stays itself."""
    several, first = int8_file("plain")
    one = apply(trained_plain, QuantizeInt8(per_channel=False))
    second = TFLiteExporter()(one, tmp_path / "one.tflite")
    assert kinds(first.path) == ["RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE"]
    assert kinds(second.path) == ["RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    for candidate, artifact in ((several, first), (one, second)):
        assert_equivalent(candidate, artifact, LiteRtRuntime(), digits()["test"].images)


def test_float_ends_give_the_same_integers(int8_file: Int8File, tmp_path: Path) -> None:
    candidate, integer = int8_file("plain")
    pictures = digits()["test"].images[:50]
    real = TFLiteExporter(io="float32")(candidate, tmp_path / "f.tflite")
    assert real.inputs[0].dtype == real.outputs[0].dtype == "float32"
    given = [LiteRtRuntime().load(a.path).predict(pictures) for a in (integer, real)]
    np.testing.assert_array_equal(*given)
    assert kinds(real.path)[0] == "QUANTIZE"
    assert kinds(real.path)[-1] == "DEQUANTIZE"


def test_layers_kept_in_float_stay_float(trained_residual: Trained, tmp_path: Path) -> None:
    candidate = apply(trained_residual, FoldBatchNorm(), QuantizeInt8(keep_float=("conv2", "fc")))
    artifact = TFLiteExporter()(candidate, tmp_path / "mixed.tflite")
    held = constants(artifact.path)
    own = candidate.network.parameters()
    reals = [value for value in held.values() if value.dtype == np.float32 and value.ndim > 1]
    assert {value.size for value in reals} == {own["conv2.weight"].size, own["fc.weight"].size}
    assert any(np.array_equal(value, own["fc.weight"]) for value in reals)
    assert held["conv1.weight"].dtype == np.int8
    assert artifact.outputs[0].dtype == "float32"
    pictures = digits()["test"].images[:100]
    given = LiteRtRuntime().load(artifact.path).predict(pictures)
    wanted = candidate.predict(pictures)
    # A float output shows each step that rounds the other way; those are few and small.
    assert np.abs(given - wanted).max() < 0.03 * np.abs(wanted).max()
    assert np.median(np.abs(given - wanted)) < 1e-5 * np.abs(wanted).max()


def test_zeros_and_clusters_survive_in_both_files(
    trained_residual: Trained, tmp_path: Path
) -> None:
    shared = apply(trained_residual, FoldBatchNorm(), PruneMagnitude(0.5), ShareWeights(bits=4))
    integer = QuantizeInt8()(shared, trained_residual.task).candidate
    artifact = TFLiteExporter()(shared, tmp_path / "s.tflite")
    assert artifact.precision == "shared"
    real = constants(artifact.path)
    codes = constants(TFLiteExporter()(integer, tmp_path / "i.tflite").path)
    bits_held = {np.sort(value.view(np.uint32), axis=None).tobytes() for value in real.values()}
    for name, encoding in shared.encodings.items():
        assert isinstance(encoding, Encoded)
        weight = shared.network.parameters()[name]
        assert np.sort(weight.view(np.uint32), axis=None).tobytes() in bits_held
        held = codes[name]
        assert np.count_nonzero(held == 0) >= np.count_nonzero(encoding.zeros())
        quantized = integer.encodings[name]
        assert isinstance(quantized, Encoded)
        np.testing.assert_array_equal(np.unique(held), np.unique(quantized.integers()))
        np.testing.assert_array_equal(quantized.zeros() | ~encoding.zeros(), True)


def test_a_negative_scale_moves_its_minus_to_the_integers(
    trained_plain: Trained, tmp_path: Path
) -> None:
    candidate = apply(trained_plain, QuantizeInt8())
    old = candidate.encodings["fc1.weight"]
    assert isinstance(old, Encoded)
    sign = np.where(np.arange(old.shape[0]) % 2, 1, -1).astype(np.float32)
    turned = candidate.with_values({}, {"fc1.weight": old.scaled(0, sign)})
    artifact = TFLiteExporter()(turned, tmp_path / "n.tflite")
    assert_equivalent(turned, artifact, LiteRtRuntime(), digits()["test"].images)
    source = Source(artifact.path.read_bytes())
    for tensor in source.tensors:
        assert tensor.quantization is None or np.all(tensor.quantization.scale > 0)


@pytest.mark.parametrize("damage", ["zero", "lowest"])
def test_weights_that_tflite_cannot_hold_are_refused(
    damage: str, trained_plain: Trained, tmp_path: Path
) -> None:
    candidate = apply(trained_plain, QuantizeInt8())
    old = candidate.encodings["fc1.weight"]
    assert isinstance(old, Encoded)
    if damage == "zero":
        scale = old.scale.copy()
        scale[3] = 0
        bad = replace(old, scale=scale)
        words = "scale that is 0"
    else:
        indices = old.indices.copy()
        indices[0, 0] = 128
        bad = replace(old, indices=indices)
        assert bad.integers().min() == -128
        words = "-128"
    target = tmp_path / "x.tflite"
    target.write_bytes(b"kept")
    with pytest.raises(ExportError, match=words):
        TFLiteExporter()(candidate.with_values({}, {"fc1.weight": bad}), target)
    assert target.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [target]


def test_a_grid_that_is_not_8_bits_is_refused(trained_plain: Trained, tmp_path: Path) -> None:
    candidate = apply(trained_plain, QuantizeInt8())
    grids = {t: replace(grid, bits=4, zero_point=3) for t, grid in candidate.activations.items()}
    with pytest.raises(ExportError, match="8 bits"):
        TFLiteExporter()(replace(candidate, activations=grids), tmp_path / "x.tflite")


def test_an_encoded_candidate_with_batch_norm_is_refused(
    trained_residual: Trained, tmp_path: Path
) -> None:
    candidate = apply(trained_residual, PruneMagnitude(0.5))
    with pytest.raises(ExportError, match=r"batch norm 'stem\.1' is not folded.*FoldBatchNorm"):
        TFLiteExporter()(candidate, tmp_path / "x.tflite")


def test_a_tensor_without_its_twin_is_named(
    trained_plain: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = apply(trained_plain, QuantizeInt8())
    monkeypatch.setattr(tflite_plan, "match_tensors", lambda *_: {})
    with pytest.raises(ExportError, match=r"tensor \d+ of digits_plain, made by RESHAPE, is no"):
        TFLiteExporter()(candidate, tmp_path / "x.tflite")


def test_a_net_that_cannot_be_converted_is_one_line(
    trained_plain: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Converter:
        @staticmethod
        def to_channel_last_io(*_: object, **__: object) -> nn.Module:
            raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(tflite_convert, "need", lambda *_: Converter)
    monkeypatch.setattr(reweighing, "_last", {})
    with pytest.raises(ExportError, match=r"cannot convert digits_plain: no such operator$"):
        TFLiteExporter()(trained_plain.candidate, tmp_path / "x.tflite")


def test_a_missing_extra_names_the_command(
    trained_plain: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    monkeypatch.setattr(reweighing, "_last", {})
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepress\[tflite\]'"):
        TFLiteExporter()(trained_plain.candidate, tmp_path / "x.tflite")


def test_options_are_checked() -> None:
    with pytest.raises(RangeError, match="allowed are 'int8', 'float32'"):
        TFLiteExporter(io="uint8")  # type: ignore[arg-type]


def vector_net() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 8), nn.Hardswish(), nn.Linear(8, 3))


def test_vectors_and_float_operators_between_integer_ones(tmp_path: Path) -> None:
    """No picture, and an activation function without an integer kernel here: float in between."""
    spec = ModelSpec(
        "tests.targets.formats.test_tflite:vector_net", inputs=(TensorSpec("v", (1, 12)),)
    )
    torch.manual_seed(3)
    candidate = Candidate.load(spec, vector_net())
    x = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
    grids: dict[TensorId, ActivationQuant] = {}
    for tensor, values in candidate.network.activations(x).items():
        low, high = min(0.0, float(values.min())), float(values.max())
        grids[tensor] = ActivationQuant((high - low) / 255, round(-low / (high - low) * 255))
    encodings: dict[str, Encoded] = {}
    for name in ("0.weight", "2.weight"):
        weight = candidate.network.parameters()[name]
        scale = (np.abs(weight).max(1) / INT8).astype(np.float32)
        codes = np.rint(weight / scale[:, None]).astype(np.int8).view(np.uint8)
        book = np.arange(256, dtype=np.uint8).view(np.int8)
        encodings[name] = Encoded(codes, book, scale, 0)
    candidate = replace(candidate.with_values({}, encodings), activations=grids)
    artifact = TFLiteExporter()(candidate, tmp_path / "v.tflite")
    assert artifact.inputs == (TensorSpec("v", (1, 12), "int8", "NC"),)
    found = kinds(artifact.path)
    assert found.count("CONV_2D") == 2
    assert found.index("CONV_2D") < found.index("DEQUANTIZE") < found.index("QUANTIZE")
    step = grids[candidate.network.graph.outputs[0]].scale
    given = LiteRtRuntime().load(artifact.path).predict(x)
    assert np.abs(given - simulate(candidate).predict(x)).max() <= 1.01 * step


def test_metadata_travels_in_the_file(
    int8: Int8, floats: Artifact, trained_branch: Trained
) -> None:
    for candidate, artifact in (int8, (trained_branch.candidate, floats)):
        found = tflite_metadata(artifact.path)
        assert found is not None
        assert found.digest == candidate.digest()
        assert found.classes == candidate.spec.classes
        assert found.preprocess == candidate.spec.preprocess
        assert found.inputs == artifact.inputs


def test_metadata_of_other_files(tmp_path: Path, floats: Artifact) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        tflite_metadata(tmp_path / "none.tflite")
    content = floats.path.read_bytes()
    path = tmp_path / "x.tflite"
    path.write_bytes(b"nothing like that")
    with pytest.raises(DataError, match=r"no \.tflite file"):
        tflite_metadata(path)
    path.write_bytes(content[:64])
    with pytest.raises(DataError, match="damaged"):
        tflite_metadata(path)
    foreign = schema().ModelT.InitFromPackedBuf(content, 0)
    foreign.metadata[0].name = "another"
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(foreign.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    assert tflite_metadata(path) is None


def test_weights_lie_on_16_byte_addresses(floats: Artifact) -> None:
    content = floats.path.read_bytes()
    model = schema().Model.GetRootAs(content, 0)
    weights = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    places = [
        content.find(w.tobytes()) for w in weights if isinstance(w, np.ndarray) and w.size > 64
    ]
    assert len(places) > 5
    assert {place % 16 for place in places} == {0}


def test_export_is_quiet_and_leaves_logging_alone(
    trained_plain: Trained,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reweighing, "_last", {})  # the converter itself is called
    handlers, level = logging.root.handlers[:], logging.root.manager.disable
    TFLiteExporter()(trained_plain.candidate, tmp_path / "q.tflite")
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == level
    os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"


def export_elsewhere(arguments: list[str]) -> None:
    source, target = map(Path, arguments)
    print(TFLiteExporter()(load_candidate(source, digits_residual_spec()), target).sha256)


def test_two_processes_write_the_same_bytes(int8_file: Int8File, tmp_path: Path) -> None:
    candidate, here = int8_file("residual")
    save_candidate(candidate, tmp_path / "c.safetensors")
    other = Forked(export_elsewhere, tmp_path / "c.safetensors", tmp_path / "b.tflite")
    assert other.communicate(timeout=240) == (f"{here.sha256}\n", "")
    assert other.returncode == 0
    assert here.path.read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_equal_vectors_stand_in_the_file_once(int8: Int8) -> None:
    """The zero points of weights and biases, all zero: one vector for each number of channels."""
    _, artifact = int8
    source = Source(artifact.path.read_bytes())
    places: dict[int, set[int]] = {}
    tensors = 0
    for tensor in source.tensors:
        grid = tensor.quantization
        if grid is not None and grid.zeroPoint is not None and len(grid.zeroPoint) > 1:
            assert not grid.zeroPoint.any()
            place = grid.zeroPoint.__array_interface__["data"][0]
            places.setdefault(len(grid.zeroPoint), set()).add(place)
            tensors += 1
    assert tensors > len(places) > 0
    assert all(len(found) == 1 for found in places.values())
