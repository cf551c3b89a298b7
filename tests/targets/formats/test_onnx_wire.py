"""Values put into an .onnx on its way out: the same bytes as onnx's own, a tensor in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.encoding import Masked
from compress.errors import ContainerError
from targets.formats.dc_envelope import write_container
from targets.formats.dc_fill import Filler
from targets.formats.dc_skeleton import skeleton, write_onnx
from targets.formats.onnx_wire import Holed

MARK = b"mark:"


def model(*initializers: TensorProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [-1]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "net", ends[:1], ends[1:], list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(made, {"after": "the graph"})
    return made


@pytest.mark.parametrize("kind", ["f4", "i1", "i4", "i8", "f2", "f8"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (130, 7)])
def test_the_bytes_are_onnxs_own(kind: str, shape: tuple[int, ...]) -> None:
    values = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 100, kind)
    other = numpy_helper.from_array(np.ones(5, np.float32), "other")
    whole = model(numpy_helper.from_array(values, "w"), other)
    whole.graph.initializer[0].doc_string = "after the values"
    marked = onnx.ModelProto()
    marked.CopyFrom(whole)
    marked.graph.initializer[0].raw_data = MARK + b"here"
    graph = marked.SerializeToString(deterministic=True)
    (hole,) = Holed(graph, MARK).holes
    assert (hole.name, hole.reference, hole.shape) == ("w", "here", shape)
    assert hole.dtype == np.dtype(kind)
    written = b"".join(Holed(graph, MARK).fill(lambda _: values))
    assert written == whole.SerializeToString(deterministic=True)
    target = memoryview(bytearray(Holed(graph, MARK).size))
    Holed(graph, MARK).fill_into(target, lambda _, at: Filler(target, 0).copy(values, at))
    assert bytes(target) == written


def test_a_graph_without_holes_stays() -> None:
    graph = model(numpy_helper.from_array(np.ones(5, np.float32), "w")).SerializeToString()
    assert b"".join(Holed(graph, MARK).fill(lambda _: np.zeros(0))) == graph


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_type": 16}, "is of type 16"),
        ({"data_type": 1, "dims": [1] * 9}, "a tensor of 9 axes"),
        ({"data_type": 1, "data_location": TensorProto.EXTERNAL}, "from a file; none is allowed"),
    ],
)
def test_initializers_that_cannot_be(fields: dict[str, object], message: str) -> None:
    marked = TensorProto(name="w", raw_data=MARK, **fields)  # type: ignore[arg-type]
    with pytest.raises(ContainerError, match=message):
        Holed(model(marked).SerializeToString(), MARK)


def test_every_truncation_and_flipped_byte() -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[3], raw_data=MARK + b"w")
    graph = model(tensor).SerializeToString()
    refused = 0
    for place in range(len(graph)):
        flipped = graph[:place] + bytes([graph[place] ^ 0x3F]) + graph[place + 1 :]
        for data in (graph[:place], flipped):
            try:
                Holed(data, MARK)
            except ContainerError as error:
                refused += "\n" not in str(error)
    assert refused > len(graph)


def test_one_tensor_is_in_memory(tmp_path: Path) -> None:
    """Eight tensors of 800 kB: the .onnx has all of them, the writer about two."""
    rng = np.random.default_rng(0)
    mask = rng.random((8, 200, 1000)) < 0.05
    weights = np.where(mask, rng.integers(1, 9, mask.shape), 0).astype(np.float32)
    tensors = {f"w{i}": (weights[i], Masked(mask[i])) for i in range(8)}
    whole = model(*(numpy_helper.from_array(w, n) for n, (w, _) in tensors.items()))
    data = whole.SerializeToString(deterministic=True)
    graph = skeleton(data, ((name, *pair) for name, pair in tensors.items()))
    container, path = tmp_path / "c.dc", tmp_path / "c.onnx"
    write_container(container, {"digest": "0" * 64}, tensors, graph)
    write_onnx(container, path)  # imports what is lazily imported
    tracemalloc.start()
    write_onnx(container, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.read_bytes() == data
    assert peak < 4 * weights[0].nbytes + container.stat().st_size
