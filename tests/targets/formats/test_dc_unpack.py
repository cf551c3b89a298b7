"""A container unpacked is the exporters' own file, byte for byte, and the net's own tensors."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file

from compress.candidate import Candidate
from compress.edit import rebuild
from compress.encoding import Encoded
from compress.errors import ContainerError, MissingExtraError
from compress.models.resnet_cifar import resnet20_spec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.share_weights import ShareWeights
from targets.formats.dc_unpack import unpack_onnx, unpack_packed, unpack_state, unpack_tflite
from targets.formats.deep_compression import DeepCompressionExporter, QuickExporter
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.formats.onnx_parameters import parameter_of
from tests.candidates import fresh
from tests.containers import Json, parts, put, sparse_lenet, write_untraced
from tests.digits import digits_task


def residual() -> Candidate:
    """ResNet-20, random, pruned and shared, then folded: codes with a scale for each channel."""
    net = PruneMagnitude(0.6)(fresh(resnet20_spec), digits_task()).candidate
    net = ShareWeights(4, method="linear")(net, digits_task()).candidate
    return FoldBatchNorm()(net, digits_task()).candidate


NETS: dict[str, Callable[[], Candidate]] = {
    "float": sparse_lenet,
    "int8": lambda: sparse_lenet(grids=True),
    "residual": residual,
}


@functools.cache
def made(name: str) -> tuple[Candidate, Path]:
    """The net and a folder with its containers, net.dc and plain.dc, and its exporters' files."""
    candidate, folder = NETS[name](), Path(tempfile.mkdtemp())
    quick = name == "residual"
    (QuickExporter() if quick else DeepCompressionExporter(graph=True))(
        candidate, folder / "net.dc"
    )
    write_untraced(candidate, folder / "plain.dc")
    OnnxExporter()(candidate, folder / "net.onnx")
    OnnxPackedExporter()(candidate, folder / "net.packed.onnx")
    return candidate, folder


@pytest.mark.parametrize("name", NETS)
def test_the_graph_becomes_the_exporters_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = made(name)
    monkeypatch.setattr("targets.formats.dc_unpack._loaded", None)  # the net is not built
    unpack_onnx(folder / "net.dc", tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == (folder / "net.onnx").read_bytes()
    unpack_packed(folder / "net.dc", tmp_path / "p.onnx")
    assert (tmp_path / "p.onnx").read_bytes() == (folder / "net.packed.onnx").read_bytes()


def test_without_a_graph_the_net_becomes_the_exporters_files(tmp_path: Path) -> None:
    candidate, folder = made("int8")
    unpack_onnx(folder / "plain.dc", tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == (folder / "net.onnx").read_bytes()
    unpack_packed(folder / "plain.dc", tmp_path / "p.onnx")
    assert (tmp_path / "p.onnx").read_bytes() == (folder / "net.packed.onnx").read_bytes()
    OnnxPackedExporter("modern")(candidate, tmp_path / "wanted.onnx")
    for container in ("net.dc", "plain.dc"):  # a graph of opset 18 is no use
        unpack_packed(folder / container, tmp_path / "p.onnx", "modern")
        assert (tmp_path / "p.onnx").read_bytes() == (tmp_path / "wanted.onnx").read_bytes()


@pytest.mark.parametrize("name", NETS)
def test_the_state_dict_is_the_nets_own_to_the_last_bit(name: str, tmp_path: Path) -> None:
    candidate, folder = made(name)
    path = tmp_path / "net.safetensors"
    unpack_state(folder / "net.dc", path)
    found, wanted = load_file(path), candidate.network.state()
    assert list(found) == sorted(wanted)
    for key, values in wanted.items():
        assert found[key].numpy().dtype == values.dtype
        assert found[key].numpy().shape == values.shape
        assert found[key].numpy().tobytes() == values.tobytes()
    model = rebuild(candidate.spec, candidate.edits).eval()
    model.load_state_dict(found)
    batch = np.random.default_rng(0).normal(size=candidate.spec.input_shape).astype(np.float32)
    with torch.no_grad():
        answer = model(torch.from_numpy(batch)).numpy()
    floats = replace(candidate, activations={}, ties=())
    assert answer.tobytes() == floats.predict(batch).tobytes()
    once = path.read_bytes()
    unpack_state(folder / "plain.dc", path)
    assert path.read_bytes() == once
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("packed", [False, True])
def test_tflite_is_the_exporters_file(packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from targets.formats.tflite import TFLiteExporter
    from targets.formats.tflite_packed import TFLitePackedExporter

    candidate, folder = made("float")
    exporter = TFLitePackedExporter() if packed else TFLiteExporter()
    exporter(candidate, tmp_path / "wanted.tflite")
    unpack_tflite(folder / "net.dc", tmp_path / "net.tflite", packed)
    assert (tmp_path / "net.tflite").read_bytes() == (tmp_path / "wanted.tflite").read_bytes()


def test_equal_weights_are_told_apart_in_any_order() -> None:
    """A container gives its encodings by name, a candidate as its stages made them."""
    indices, one = np.ones((2, 2), np.uint8), np.ones(1, np.float32)
    known = {
        "b": Encoded(indices, np.float32([0, 2]), one),
        "a": Encoded(indices, np.float32([0, 1]), np.float32([2])),
    }
    tensor = numpy_helper.from_array(np.full((2, 2), 2, np.float32), "c")
    assert parameter_of(tensor, known) == ("a", False)
    assert parameter_of(tensor, dict(reversed(known.items()))) == ("a", False)
    tensor.name = "b"
    assert parameter_of(tensor, known) == ("b", False)


# -- what cannot be unpacked ------------------------------------------------------------------


def refusal(write: Callable[[Path, Path], None], container: Path, error: type[Exception]) -> str:
    """The line; a file that is there stays as it is."""
    path = container.with_name("mine.onnx")
    path.write_text("mine")
    with pytest.raises(error) as caught:
        write(container, path)
    assert path.read_text() == "mine"
    assert {p.name for p in container.parent.iterdir()} <= {container.name, "mine.onnx"}
    message = str(caught.value)
    assert "\n" not in message
    return message


WRITERS = (unpack_onnx, unpack_packed, unpack_state, unpack_tflite)


@pytest.mark.parametrize("write", WRITERS)
def test_damage_is_told(write: Callable[[Path, Path], None], tmp_path: Path) -> None:
    container = tmp_path / "net.dc"
    data = bytearray((made("float")[1] / "net.dc").read_bytes())
    data[-7] ^= 1
    container.write_bytes(data)
    assert "its checksum differs" in refusal(write, container, ContainerError)
    container.write_bytes(data[:30])
    assert str(container) in refusal(write, container, ContainerError)


def test_a_net_of_other_code_is_named(tmp_path: Path) -> None:
    container = write_untraced(fresh(), tmp_path / "net.dc")
    for write in (unpack_onnx, unpack_packed):
        line = refusal(write, container, ContainerError)
        assert line.startswith(f"{container} carries no graph, and a file may name nets of comp")
        assert "not 'tests.nets:digits_plain'; in Python, export" in line
    unpack_state(container, tmp_path / "s")  # needs no net


@pytest.mark.parametrize("module", ["torch", "litert_torch", "onnx"])
def test_what_is_missing_is_named_with_the_command(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = write_untraced(sparse_lenet(), tmp_path / "net.dc")
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    if module == "torch":
        for write in (unpack_onnx, unpack_packed):
            line = refusal(write, container, MissingExtraError)
            assert line.startswith(
                f"{container} carries no graph, and building its net needs torch"
            )
            assert line.endswith("; run: pip install 'edgepress'")
        graph = tmp_path / "net.dc"
        graph.write_bytes((made("float")[1] / "net.dc").read_bytes())
        line = refusal(lambda c, p: unpack_packed(c, p, "modern"), graph, MissingExtraError)
        assert f"profile 'modern' is of opset 21, the graph that {graph} carries of 18" in line
    elif module == "onnx":
        line = refusal(unpack_packed, container, MissingExtraError)
        assert line.startswith(f"packing {container} needs onnx, which is not installed")
    else:
        line = refusal(unpack_tflite, container, MissingExtraError)
        assert line.endswith("run: pip install 'edgepress[tflite]'")


def with_graph(container: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load_from_string(parts(container)["graph"])
    change(model)
    return put(container, {**parts(container), "graph": model.SerializeToString()})


def no_operator(model: Json) -> None:
    model.graph.node[0].op_type = "Nonesuch"


def short_constant(model: Json) -> None:
    model.graph.initializer.append(onnx.TensorProto(name="x", data_type=1, dims=[9], raw_data=b""))
    model.graph.node[0].input.append("x")


def unknown_tensor(model: Json) -> None:
    model.graph.node[-1].input[0] = "nowhere"


@pytest.mark.parametrize("change", [no_operator, short_constant, unknown_tensor])
def test_a_graph_that_is_no_net_is_refused(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    container = tmp_path / "net.dc"
    container.write_bytes((made("float")[1] / "net.dc").read_bytes())
    line = refusal(unpack_packed, with_graph(container, change), ContainerError)
    assert line.startswith(f"{container}: the graph is damaged: ")
