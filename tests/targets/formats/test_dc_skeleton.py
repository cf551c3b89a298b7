"""A container with its graph becomes the very .onnx that the exporter writes, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.candidate import Candidate
from compress.errors import ContainerError, ExportError
from recipes.loaders.python.read_dc import read_dc
from targets.formats.dc_envelope import read_container
from targets.formats.dc_skeleton import filled, onnx_bytes, skeleton, write_onnx
from targets.formats.deep_compression import DeepCompressionExporter, QuickExporter, load
from targets.formats.onnx import OnnxExporter
from tests.candidates import fresh
from tests.containers import Json, parts, put, sparse_lenet, write_untraced
from tests.nets import digits_residual_spec

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = (
    "import sys; sys.modules['torch'] = None\n"
    "from pathlib import Path\n"
    "from targets.formats.dc_skeleton import write_onnx\n"
    "write_onnx(Path(sys.argv[1]), Path(sys.argv[2]))\n"
)


@pytest.fixture(scope="module", params=[False, True], ids=["float", "int8"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """(candidate, container with graph, exporter's .onnx)."""
    folder = tmp_path_factory.mktemp("skeleton")
    candidate = sparse_lenet(grids=request.param)
    DeepCompressionExporter(graph=True)(candidate, folder / "c.dc")
    OnnxExporter()(candidate, folder / "c.onnx")
    return candidate, folder / "c.dc", folder / "c.onnx"


def test_without_torch_byte_for_byte(exported: Json, tmp_path: Path) -> None:
    _, container, wanted = exported
    path = tmp_path / "rebuilt.onnx"
    command = [sys.executable, "-c", SCRIPT, str(container), str(path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert path.read_bytes() == wanted.read_bytes()


def test_as_bytes_and_from_a_quick_container(exported: Json, tmp_path: Path) -> None:
    candidate, container, wanted = exported
    assert onnx_bytes(container) == wanted.read_bytes()
    quick = tmp_path / "c.quick.dc"
    QuickExporter()(candidate, quick)
    assert onnx_bytes(quick) == wanted.read_bytes()
    assert load(quick).digest() == candidate.digest()
    codings = {m.codes.coding for _, m in read_container(quick).measure() if m.codes}
    assert codings <= {"gaps in planes", "symbols in planes"}
    assert codings
    weights, _ = read_dc(quick)
    state = candidate.network.state()
    assert set(weights) == set(state)
    assert all(np.array_equal(weights[name], state[name]) for name in state)


def test_of_the_decoded_candidate(exported: Json, tmp_path: Path) -> None:
    candidate, container, wanted = exported
    back = load(container)
    assert back.digest() == candidate.digest()
    OnnxExporter()(back, tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == wanted.read_bytes()


def test_the_graph_holds_no_weight_of_the_container(exported: Json) -> None:
    candidate, container, wanted = exported
    graph = read_container(container).graph
    assert graph is not None
    large = [i for i in onnx.load_from_string(graph).graph.initializer if len(i.raw_data) > 64]
    # What is left is the int32 form of the biases, which the container has as floats.
    names = {i.name for i in large if numpy_helper.to_array(i).dtype != np.int32}
    assert all(name.endswith("_bias_scale") for name in names), names
    assert len(graph) < wanted.stat().st_size / 20
    assert bool(names) <= bool(candidate.activations)


def test_the_graph_costs_little(exported: Json, tmp_path: Path) -> None:
    candidate, container, _ = exported
    plain = write_untraced(candidate, tmp_path / "plain.dc")
    assert plain.stat().st_size < container.stat().st_size < plain.stat().st_size + 2600


def test_transposed_weights_are_found() -> None:
    values = np.arange(60, dtype=np.float32).reshape(5, 12)
    model = onnx.ModelProto()
    model.graph.initializer.append(numpy_helper.from_array(values.T.copy(), "matmul"))
    model.graph.initializer.append(numpy_helper.from_array(values.reshape(12, 5), "other"))
    whole = model.SerializeToString(deterministic=True)
    graph = skeleton(whole, [("w", values, None)])
    assert filled(graph, [("w", values, None)]) == whole
    kept = onnx.load_from_string(graph).graph.initializer
    assert kept[0].raw_data == b"in-container:values.T:w"
    assert kept[1].raw_data == values.tobytes()


def test_a_model_that_serialises_otherwise_is_refused() -> None:
    """Fields out of order cannot be rebuilt byte for byte."""
    whole = onnx.ModelProto(producer_name="x").SerializeToString()
    whole += onnx.ModelProto(ir_version=8).SerializeToString()
    with pytest.raises(ExportError, match="cannot be rebuilt byte for byte"):
        skeleton(whole, [])


def test_an_unfolded_batch_norm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="put FoldBatchNorm first"):
        DeepCompressionExporter(graph=True)(fresh(digits_residual_spec), tmp_path / "c.dc")
    assert list(tmp_path.iterdir()) == []


# -- damage -----------------------------------------------------------------------------------


def refusal(container: Path, graph: onnx.ModelProto | bytes) -> str:
    """The line for a container with this graph; nothing is written."""
    text = graph if isinstance(graph, bytes) else graph.SerializeToString()
    put(container, {**parts(container), "graph": text})
    path = container.with_suffix(".onnx")
    with pytest.raises(ContainerError) as caught:
        write_onnx(container, path)
    assert not path.exists()
    message = str(caught.value)
    assert message.startswith(str(container))
    assert "\n" not in message
    return message


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_untraced(sparse_lenet(), tmp_path / "plain.dc")


def test_a_container_without_graph(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="carries no graph; write it with"):
        write_onnx(plain, tmp_path / "c.onnx")
    assert not (tmp_path / "c.onnx").exists()


def test_a_damaged_graph(plain: Path) -> None:
    assert "the graph is damaged" in refusal(plain, b"\xff\xff no protobuf")


def with_initializer(**fields: Json) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, **fields))
    return model


def test_a_graph_that_asks_for_what_is_not_there(plain: Path) -> None:
    model = with_initializer(dims=[10], raw_data=b"in-container:values:nowhere")
    assert "wants 'values:nowhere', which the container does not have" in refusal(plain, model)
    model = with_initializer(dims=[10], raw_data=b"in-container:\xff")
    assert "which the container does not have" in refusal(plain, model)
    model = with_initializer(dims=[11], raw_data=b"in-container:values:fc3.bias")
    assert "wants 'w' of shape (11,), the container has 'values:fc3.bias' of (10,)" in refusal(
        plain, model
    )


def test_a_graph_beyond_what_an_onnx_may_have(plain: Path) -> None:
    """A small file that asks for the same weights again and again."""
    model = onnx.ModelProto()
    for _ in range(2400):
        tensor = onnx.TensorProto(dims=[300, 784], data_type=1)
        tensor.raw_data = b"in-container:values:fc1.weight"
        model.graph.initializer.append(tensor)
    put(plain, {**parts(plain), "graph": model.SerializeToString()})
    with pytest.raises(ContainerError, match=r"wants 2,25.* bytes; an .onnx has at most 2,147,"):
        onnx_bytes(plain)


def test_bytes_of_damaged_weights(exported: Json, tmp_path: Path) -> None:
    """Compiled or not, the message is the reader's."""
    candidate, *_ = exported
    quick = tmp_path / "quick.dc"
    QuickExporter()(candidate, quick)
    found = parts(quick)
    put(quick, {**found, "payload": found["payload"][:-1] + b"\xff"})
    with pytest.raises(ContainerError, match=r"tensor 'fc3\.weight' is damaged") as caught:
        onnx_bytes(quick)
    assert str(caught.value).startswith(str(quick))
    assert "\n" not in str(caught.value)


def test_a_graph_that_reads_another_file(plain: Path) -> None:
    model = with_initializer(dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    assert "wants 'w' from a file; none is allowed" in refusal(plain, model)


def test_damaged_weights_under_a_graph(
    exported: tuple[Candidate, Path, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.dc"
    data = bytearray(exported[1].read_bytes())
    data[-7] ^= 1
    copy.write_bytes(data)
    with pytest.raises(ContainerError, match="its checksum differs"):
        write_onnx(copy, tmp_path / "c.onnx")
    assert not (tmp_path / "c.onnx").exists()


def test_every_flipped_bit_of_a_graph_is_an_error_or_an_onnx(
    exported: tuple[Candidate, Path, Path],
) -> None:
    """Only damage that zlib's checksum does not see comes as far as this."""
    tensors = list(read_container(exported[1]).decode())
    graph = parts(exported[1])["graph"]
    refused = 0
    for place in range(0, len(graph), 3):
        raw = bytearray(graph)
        raw[place] ^= 1 << (place % 8)
        try:
            filled(bytes(raw), tensors)
        except ContainerError:
            refused += 1
    assert 0 < refused < len(graph) // 3
