"""Files that cannot be imported: one line each, which says what and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from compress.errors import ModelError
from compress.importing.opening import open_model
from tests.foreign import FLOAT, nodes_file

W = np.ones((4, 3, 3, 3), np.float32)
CONV = helper.make_node("Conv", ["x", "w"], ["y"], name="stem")


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(str(path))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def with_input(path: Path, shape: list[int | str], kind: int = FLOAT) -> Path:
    nodes_file([CONV], path, {"w": W})
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, shape))
    onnx.save(model, path)
    return path


def test_not_there_truncated_and_no_onnx(tmp_path: Path) -> None:
    refused(tmp_path / "net.onnx", "cannot be read", "give an .onnx file")
    path = nodes_file([CONV], tmp_path / "net.onnx", {"w": W})
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "truncated")
    path.write_bytes(b"")
    refused(path, "holds no net")
    path.write_bytes(b"PK\x03\x04 this is something else")
    refused(path, "no .onnx file")


def test_weights_shorter_than_their_shape(tmp_path: Path) -> None:
    path = nodes_file([CONV], tmp_path / "net.onnx", {"w": W})
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"\0" * 8
    onnx.save(model, path)
    refused(path, "damaged", "'w'", "[4, 3, 3, 3]")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    from compress.errors import CheckpointError

    path = nodes_file([CONV], tmp_path / "net.onnx", {"w": W * np.nan})
    with pytest.raises(CheckpointError, match="not finite"):
        open_model(str(path))


def test_custom_operators(tmp_path: Path) -> None:
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], name="f", domain="com.microsoft")
    path = nodes_file([node], tmp_path / "net.onnx", {"w": W})
    refused(path, "com.microsoft:FusedConv", "'f'", "custom operators")


def test_dynamic_control_flow(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_float=1.0)],
        "body",
        [],
        [helper.make_tensor_value_info("c", FLOAT, [])],
    )
    choose = helper.make_node("If", ["x"], ["y"], name="choice", then_branch=body, else_branch=body)
    refused(nodes_file([choose], tmp_path / "net.onnx"), "'choice'", "If", "control flow")


def test_operators_that_are_not_supported(tmp_path: Path) -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="far_away")
    refused(nodes_file([node], tmp_path / "net.onnx"), "'far_away'", "Det", "not supported")


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        (["n", 3, "h", "w"], FLOAT, ("height and width left open", "make_dynamic_shape_fixed")),
        ([1, 32, 32, 3], FLOAT, ("channels last",)),
        ([1, 64], FLOAT, ("(1, 64)", "float32 (N, C, H, W)")),
        ([1, 3, 8, 8], onnx.TensorProto.UINT8, ("UINT8", "float32")),
        ([1, 3, 8, 8], onnx.TensorProto.FLOAT16, ("FLOAT16", "float32")),
    ],
)
def test_inputs(shape: list[int | str], kind: int, words: tuple[str, ...], tmp_path: Path) -> None:
    refused(with_input(tmp_path / "net.onnx", shape, kind), "'x'", *words)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    path = nodes_file([CONV], tmp_path / "net.onnx", {"w": W}, outputs=("y", "x"))
    refused(path, "2 outputs (y, x)", "extract_model")
    model = onnx.load(nodes_file([CONV], path, {"w": W}))
    model.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, [1]))
    onnx.save(model, path)
    refused(path, "2 inputs (x, mask)")


def test_a_quantized_file(tmp_path: Path) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="q")
    constants = {"s": np.array(0.1, np.float32), "z": np.array(3, np.uint8)}
    path = nodes_file([node], tmp_path / "net.onnx", constants)
    refused(path, "'q'", "QuantizeLinear", "quantized already", "float32 file")


def test_training_mode(tmp_path: Path) -> None:
    names = ["a", "b", "m", "v"]
    node = helper.make_node(
        "BatchNormalization", ["x", *names], ["y", "m2", "v2"], name="bn", training_mode=1
    )
    constants = {name: np.ones(3, np.float32) for name in names}
    refused(nodes_file([node], tmp_path / "net.onnx", constants), "training mode", "model.eval()")


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([helper.make_node("Reshape", ["x", "c"], ["y"])], {"c": np.array([3, 64])}),
        ([helper.make_node("Gather", ["x", "c"], ["y"])], {"c": np.array(0)}),
        ([helper.make_node("ReduceMean", ["x", "c"], ["y"])], {"c": np.array([0, 1])}),
        ([helper.make_node("Softmax", ["x"], ["y"], axis=0)], {}),
    ],
    ids=["reshape", "gather", "mean", "softmax"],
)
def test_pictures_that_are_mixed(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """What holds for one picture need not for the batch: the answer must be one for each."""
    path = nodes_file(nodes, tmp_path / "net.onnx", constants)
    with pytest.raises(ModelError, match="picture"):
        open_model(str(path))


def test_a_few_bytes_that_ask_for_terabytes(tmp_path: Path) -> None:
    huge = np.array([1 << 20, 1 << 20], np.int64)
    fill = helper.make_node("ConstantOfShape", ["c"], ["y"], name="bomb")
    refused(nodes_file([fill], tmp_path / "net.onnx", {"c": huge}), "'bomb'", "elements")
    pads = np.array([0, 0, 1 << 20, 0, 0, 0, 0, 1 << 20], np.int64)
    pad = helper.make_node("Pad", ["x", "c"], ["y"], name="bomb")
    refused(nodes_file([pad], tmp_path / "net.onnx", {"c": pads}), "'bomb'", "elements")


def external(path: Path, location: str) -> Path:
    nodes_file([CONV], path, {"w": W})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder / "net.onnx", "net.data")
    missing = ("'w'", "'net.data'", "cannot be read (No such file", "one folder")
    refused(path, *missing)
    (folder / "net.data").write_bytes(W.tobytes())
    whole = onnx.load(path)
    options = {"save_as_external_data": True, "location": "gone.data", "size_threshold": 0}
    onnx.save(whole, folder / "other.onnx", **options)  # with offset and length
    (folder / "gone.data").unlink()
    refused(folder / "other.onnx", "'gone.data'", *missing[2:])
    assert open_model(str(path)).network.layers()[0].shape == W.shape
    (folder / "net.data").write_bytes(W.tobytes()[:-4])
    refused(path, "'w'")


def test_external_data_of_a_constant_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from the file's folder, too, and not from the working directory."""
    path = external(tmp_path / "net.onnx", "net.data")
    model = onnx.load(path, load_external_data=False)
    constant = helper.make_node("Constant", [], ["w"], value=model.graph.initializer[0])
    model.graph.node.insert(0, constant)
    model.graph.ClearField("initializer")
    path.write_bytes(model.SerializeToString())
    (tmp_path / "net.data").write_bytes(W.tobytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    network = open_model(str(path)).network
    assert np.array_equal(network.parameters()[network.layers()[0].weight], W)


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(W.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    for location in ("../secret", str(tmp_path / "secret")):
        refused(external(folder / "net.onnx", location), "not allowed")
    (folder / "link").symlink_to(tmp_path / "secret")
    refused(external(folder / "net.onnx", "link"), "'w'")


def test_an_opset_out_of_range(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    refused(nodes_file([node], tmp_path / "net.onnx", opset=6), "opset 6", "convert_version")


def test_a_node_that_reads_nothing_known(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["nowhere"], ["y"])
    refused(nodes_file([node], tmp_path / "net.onnx"), "'nowhere'")


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    constants = {"w": np.ones((4, 5, 3, 3), np.float32)}
    refused(nodes_file([CONV], tmp_path / "net.onnx", constants), "'stem' (Conv)", "does not fit")


def test_too_many_channels_for_a_picture(tmp_path: Path) -> None:
    path = nodes_file(
        [helper.make_node("Relu", ["x"], ["y"])], tmp_path / "n.onnx", {}, (1, 7, 8, 8)
    )
    refused(path, "7 channels")
