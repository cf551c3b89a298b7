from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compress.candidate import Candidate
from compress.errors import DataError, RangeError
from compress.stages.prune_magnitude import PruneMagnitude
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.runtimes.onnx_age import too_new
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_residual_spec
from tests.onnx_files import folded, quantized, written

PICTURES = digits()["validation"].images[:8]


def tiny(path: Path, kind: int = TensorProto.FLOAT, batch: int | str = 1) -> Path:
    """y = x + x."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", kind, [batch, 3])],
        [helper.make_tensor_value_info("y", kind, [batch, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


def test_float_file_scores_as_the_net() -> None:
    candidate = trained(digits_residual_spec).candidate
    session = OnnxRuntime().load(written(candidate).path)
    given = session.predict(PICTURES)
    assert given.shape == (8, 10)
    assert given.dtype == np.float32
    assert np.abs(given - candidate.predict(PICTURES)).max() < 1e-4
    assert session.predict(PICTURES[:0]).shape == (0, 10)
    assert session.provider == "CPUExecutionProvider"


def test_tensors_beside_the_file_are_read_from_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's exporter writes them unless told otherwise."""
    here, folder = tmp_path / "here", tmp_path / "model"
    here.mkdir()
    folder.mkdir()
    plain = written(trained(digits_residual_spec).candidate).path
    model = onnx.load(plain)
    options = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(model, folder / "net.onnx", **options)
    data = (folder / "net.data").read_bytes()
    (here / "net.data").write_bytes(bytes(len(data)))  # another net's
    monkeypatch.chdir(here)
    expected = OnnxRuntime().load(plain)
    for path in (folder / "net.onnx", Path("../model/net.onnx")):
        session = OnnxRuntime().load(path)
        assert np.array_equal(session.predict(PICTURES), expected.predict(PICTURES))
        shown = session.tensors(PICTURES)["logits"]
        assert np.array_equal(shown, expected.tensors(PICTURES)["logits"])
    (folder / "net.data").unlink()
    with pytest.raises(DataError, match=r"net\.data"):
        OnnxRuntime().load(folder / "net.onnx")


def test_threads_change_no_number() -> None:
    path = written(quantized(digits_branch_spec)).path
    one, two = OnnxRuntime().load(path), OnnxRuntime().load(path, threads=2)
    assert np.array_equal(one.predict(PICTURES), two.predict(PICTURES))


def test_inner_tensors_are_those_of_the_candidate() -> None:
    candidate = trained(digits_residual_spec).candidate
    tensors = OnnxRuntime().load(written(candidate).path).tensors(PICTURES)
    names = list(tensors)
    assert names[0] == "input"
    assert names[-1] == "logits"
    assert np.array_equal(tensors["input"], PICTURES)
    known = {str(t): v for t, v in candidate.network.activations(PICTURES).items()}
    assert np.abs(tensors["max_pool2d"] - known["/max_pool2d#0"]).max() < 1e-4


def test_inner_tensors_of_integer_files_lie_on_the_grids() -> None:
    candidate = quantized(digits_branch_spec)
    session = OnnxRuntime().load(written(candidate).path)
    tensors = session.tensors(PICTURES)
    grid = candidate.activations[candidate.network.graph.outputs[0]]
    codes = tensors["logits"] / np.float32(grid.scale)
    assert np.allclose(codes, np.rint(codes), atol=1e-4)
    assert np.array_equal(tensors["logits"], session.predict(PICTURES))
    # The float products, which fused kernels never hold, are not there; the grids all are.
    assert not any(name.endswith(("_float", "_codes")) for name in tensors)
    assert len(tensors) >= len(candidate.activations)


def test_as_written_and_optimized_agree() -> None:
    path = written(quantized(digits_branch_spec)).path
    plain = OnnxRuntime(optimize=False).load(path).predict(PICTURES)
    assert np.abs(plain - OnnxRuntime().load(path).predict(PICTURES)).max() < 0.5


def test_free_batch_is_run_one_by_one(tmp_path: Path) -> None:
    session = OnnxRuntime().load(tiny(tmp_path / "tiny.onnx", batch="n"))
    batch = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(session.predict(batch), 2 * batch)


def test_fixed_batch_needs_whole_batches(tmp_path: Path) -> None:
    session = OnnxRuntime().load(tiny(tmp_path / "tiny.onnx", batch=2))
    assert session.predict(np.ones((4, 3), np.float32)).shape == (4, 3)
    with pytest.raises(DataError, match="takes 2 pictures at a time; got 3"):
        session.predict(np.ones((3, 3), np.float32))


def test_wrong_pictures_are_refused() -> None:
    session = OnnxRuntime().load(written(quantized(digits_branch_spec)).path)
    with pytest.raises(DataError, match=r"takes pictures of shape \(1, 8, 8\); got \(1, 9, 9\)"):
        session.predict(np.zeros((1, 1, 9, 9), np.float32))


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    runtime = OnnxRuntime()
    with pytest.raises(DataError, match=r"missing.onnx cannot be read \(No such file"):
        runtime.load(tmp_path / "missing.onnx")
    whole = written(quantized(digits_branch_spec)).path.read_bytes()
    for damaged in (b"", b"no model", whole[: len(whole) // 2]):
        path = tmp_path / "damaged.onnx"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="onnxruntime cannot load") as raised:
            runtime.load(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=r"has the inputs x: uint8.*one float32 input"):
        runtime.load(tiny(tmp_path / "bytes.onnx", TensorProto.UINT8))
    with pytest.raises(RangeError, match="0 threads: at least 1 is allowed"):
        runtime.load(tiny(tmp_path / "tiny.onnx"), threads=0)


@functools.cache
def pruned() -> Candidate:
    """A net that packing makes smaller."""
    net, task = folded(digits_residual_spec), trained(digits_residual_spec).task
    return PruneMagnitude(0.7)(net, task).candidate


def stamped(source: Path, path: Path, opset: int, ir_version: int, own: bool = True) -> Path:
    """A copy that says another opset and IR version; without `own`, not that we wrote it."""
    model = onnx.load(source)
    model.opset_import[0].version = opset
    model.ir_version = ir_version
    if not own:
        del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("opset", "ir_version", "packed", "own", "told"),
    [
        (99, 10, True, True, r"opsets up to \d\d; write it by OnnxPackedExporter\(profile='comp"),
        (99, 10, False, True, r"opsets up to \d\d; write it by OnnxExporter\(opset=18\), or"),
        (99, 10, False, False, r"opsets up to \d\d; convert it to opset \d\d, or install a newer"),
        (18, 99, True, True, r"IR versions up to \d\d; write it by OnnxPackedExporter\(profile="),
        (18, 99, False, False, r"IR versions up to \d\d; convert it to IR version \d\d, or inst"),
    ],
)
def test_a_file_too_new_for_the_runtime_is_told_what_to_write(
    opset: int, ir_version: int, packed: bool, own: bool, told: str, tmp_path: Path
) -> None:
    source = exported(OnnxPackedExporter() if packed else OnnxExporter(), pruned()).path
    path = stamped(source, tmp_path / "net.onnx", opset, ir_version, own)
    first = (
        rf"net\.onnx is of opset {opset}, IR version {ir_version}, and onnxruntime [\d.]+ takes "
    )
    with pytest.raises(DataError, match=first + told) as error:
        OnnxRuntime().load(path)
    assert "\n" not in str(error.value)


def test_what_old_runtimes_say_is_understood() -> None:
    """The words of onnxruntime 1.15 and 1.16, which know neither opset 21 nor IR version 10."""
    content = exported(OnnxPackedExporter("modern"), pruned()).path
    said = "model.cc:149 Model Unsupported model IR version: 10, max supported IR version: 9"
    told = too_new(content.read_bytes(), "1.16.3", said)
    assert told == (
        "is of opset 21, IR version 10, and onnxruntime 1.16.3 takes IR versions up to 9; write it "
        "by OnnxPackedExporter(profile='compatible'), or install a newer onnxruntime"
    )
    said = "NOT_IMPLEMENTED : Could not find an implementation for Reshape(19) node with name 'a'"
    told = str(too_new(content.read_bytes(), "1.15.1", said))
    assert "onnxruntime 1.15.1 has no Reshape of opset 19; write it by OnnxPackedExp" in told
    assert too_new(content.read_bytes(), "1.15.1", said.replace("19", "13")) is None
    said = "Opset 21 is under development. Current official support for domain ai.onnx is till "
    told = str(too_new(content.read_bytes(), "1.16.3", said + "opset 19."))
    assert "takes opsets up to 19; write it by OnnxPackedExp" in told
    # Neither profile would do: none is named.
    told = str(too_new(content.read_bytes(), "1.12.0", said + "opset 17."))
    assert told.endswith("takes opsets up to 17; install a newer onnxruntime")
    assert too_new(content.read_bytes(), "1.16.3", "Invalid model") is None


@pytest.mark.parametrize(
    ("exporter", "opset", "ir_version"),
    [
        (OnnxExporter(), 18, 8),
        (OnnxExporter(opset=20), 20, 9),
        (OnnxPackedExporter(), 18, 8),
        (OnnxPackedExporter("modern"), 21, 10),
    ],
)
def test_files_ask_for_no_newer_runtime_than_their_opset(
    exporter: OnnxExporter | OnnxPackedExporter, opset: int, ir_version: int
) -> None:
    model = onnx.load(exported(exporter, pruned()).path)
    assert [o.version for o in model.opset_import if not o.domain] == [opset]
    assert model.ir_version == ir_version
