"""Packed files tensor by tensor: forms, levels and bytes, each exact, in every way of packing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from compress.errors import DataError, EdgepressError
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.inspection import Inspection, TensorSummary, inspect_file
from targets.inspection_packed import packed_parts, shares
from tests.containers import sparse_lenet
from tests.exports import exported

LENET = sparse_lenet()
CODED = OnnxPackedExporter()
QUICK = OnnxPackedExporter(quick=True)


def inspected(exporter: OnnxPackedExporter) -> tuple[Inspection, dict[str, TensorSummary]]:
    found = inspect_file(exported(exporter, LENET).path)
    assert sum(found.parts.values()) == found.file_bytes
    return found, {tensor.name: tensor for tensor in found.tensors}


def constants(exporter: OnnxPackedExporter) -> dict[str, onnx.TensorProto]:
    graph = onnx.load(exported(exporter, LENET).path).graph
    return {str(tensor.name): tensor for tensor in graph.initializer}


def shannon(values: NDArray[np.float32]) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum())


@pytest.mark.parametrize("exporter", [CODED, QUICK], ids=["prefix codes", "quick"])
def test_shapes_and_zeros_are_the_candidates(exporter: OnnxPackedExporter) -> None:
    found, tensors = inspected(exporter)
    assert (found.format, found.precision) == ("onnx-packed", "shared")
    for name, values in LENET.network.parameters().items():
        if np.any(values) or name in LENET.encodings:  # a bias of zeros is not written
            summary = tensors[name]
            assert (summary.shape, summary.dtype) == (values.shape, "float32")
            assert summary.nonzeros == np.count_nonzero(values)


def test_a_file_of_prefix_codes() -> None:
    """fc1 has 39 values on an even grid, fc2.0 4 of a codebook, fc3 11 of int8, all with zero."""
    found, tensors = inspected(CODED)
    assert {n: (t.form, t.index_bits, t.coding) for n, t in tensors.items() if t.coding} == {
        "fc1.weight": ("shared", 6, "gaps"),
        "fc2.0.weight": ("shared", 3, "gaps"),
        "fc2.1.weight": ("masked", None, "mask"),
        "fc3.weight": ("shared", 4, "gaps"),
    }
    assert {"planes", "tree", "scale", "decoding", "graph"} <= set(found.parts)
    held = constants(CODED)
    assert found.parts["planes"] == held[":planes"].ByteSize()
    assert found.parts["tree"] == held[":tree"].ByteSize()


def test_the_shares_of_what_all_tensors_have_in_common() -> None:
    """By the entropy of the levels: fc3's are those before its scales."""
    _, tensors = inspected(CODED)
    held = constants(CODED)
    state = LENET.network.parameters()
    levels = {name: state[name] for name in ("fc1.weight", "fc2.0.weight", "fc3.weight")}
    levels["fc3.weight"] = LENET.encodings["fc3.weight"].indices  # type: ignore[union-attr]
    bits = {name: shannon(values) for name, values in levels.items()}
    common = held[":planes"].ByteSize() + held[":tree"].ByteSize()
    shared: dict[str, int] = {}
    for name in bits:
        own = sum(t.ByteSize() for key, t in held.items() if key.startswith(f"{name}:"))
        shared[name] = tensors[name].file_bytes - own
        assert abs(shared[name] - common * bits[name] / sum(bits.values())) < 2
    assert sum(shared.values()) == common
    alone = [held["fc2.1.weight:mask"], held["fc2.1.weight:values"]]
    assert tensors["fc2.1.weight"].file_bytes == sum(t.ByteSize() for t in alone)


def test_causes_of_a_file_of_prefix_codes() -> None:
    found, _ = inspected(CODED)
    sizes = found.sizes
    assert sizes is not None
    assert sizes.fp32_bytes == 4 * (235_200 + 900 + 300 + 1000 + 10)
    # The bias alone has values for its zeros.
    kept = 39 + 42 + 0 + 11 + 10
    assert sizes.zeros_bytes == -4 * (237_410 - kept)
    # 6, 3 and 4 bits each, and the bias as it is.
    assert sizes.levels_bytes == 30 + 16 + 6 + 40 - 4 * kept
    held = constants(CODED)
    weights = [held[n] for n in (":planes", "fc2.1.weight:mask", "fc2.1.weight:values", "fc3.bias")]
    assert sizes.weight_bytes == sum(len(t.raw_data) for t in weights)
    tables = [t for n, t in held.items() if n.endswith((":tree", ":scale", ":book"))]
    several = [t for n, t in held.items() if n.startswith(":") and t.data_type == 1 and t.dims]
    assert sizes.codebook_bytes == sum(len(t.raw_data) for t in (*tables, *several))


def test_a_file_without_prefix_codes() -> None:
    found, tensors = inspected(QUICK)
    assert {n: (t.form, t.index_bits, t.coding) for n, t in tensors.items() if t.coding} == {
        "fc1.weight": ("masked", None, "mask"),
        "fc2.0.weight": ("shared", 3, "dense"),
        "fc2.1.weight": ("masked", None, "mask"),
        "fc3.weight": ("int8", 4, "mask"),
    }
    held = constants(QUICK)
    for name in LENET.encodings:
        own = sum(t.ByteSize() for key, t in held.items() if key.startswith(f"{name}:"))
        assert tensors[name].file_bytes == own
    sizes = found.sizes
    assert sizes is not None
    # fc2.0 has a code for each of its 900 weights; the values of fc1 are halves.
    kept = 39 + 900 + 0 + 11 + 10
    assert sizes.zeros_bytes == -4 * (237_410 - kept)
    assert held["fc1.weight:values"].data_type == onnx.TensorProto.FLOAT16
    assert sizes.levels_bytes == 39 * 2 + 338 + 6 + 40 - 4 * kept


def test_parts_of_a_tensor_that_is_not_decoded(tmp_path: Path) -> None:
    """An operator that no packed file has makes it."""
    model = onnx.load(exported(QUICK, LENET).path)
    for node in model.graph.node:
        if "fc2.1.weight" in node.output:
            node.CopyFrom(helper.make_node("Identity", ["fc2.1.weight:values"], ["fc2.1.weight"]))
    path = tmp_path / "n.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"n\.onnx has parts of 'fc2\.1\.weight', but does not"):
        inspect_file(path)


def test_a_plain_graph_has_no_parts() -> None:
    model = onnx.load(exported(QUICK, LENET).path)
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace(":", "|")
    assert packed_parts(model.graph) == {}


@pytest.mark.parametrize("change", [lambda bit: 1 << bit, lambda _: 0xFF], ids=["bit", "byte"])
def test_every_damaged_byte_is_a_line_or_data(
    change: Callable[[int], int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(exported(CODED, LENET).path.read_bytes())
    path = tmp_path / "damaged.onnx"
    lines: list[str] = []
    for place in range(0, len(data), 53):
        mask = change(place % 8)
        data[place] ^= mask
        path.write_bytes(data)
        data[place] ^= mask
        try:
            found = inspect_file(path)
        except EdgepressError as error:
            lines.append(str(error))
        else:
            json.dumps(found.to_dict())
            assert sum(found.parts.values()) == found.file_bytes
    assert len(lines) > 20
    assert not [line for line in lines if "\n" in line]
    named = [line for line in lines if str(path) in line or "metadata is damaged" in line]
    assert named == lines
    assert capfd.readouterr().out == ""


@given(st.integers(0, 10**9), st.lists(st.floats(0, 1e9), min_size=1, max_size=20))
def test_shares_are_the_whole(total: int, weights: list[float]) -> None:
    found = shares(total, weights)
    assert sum(found) == total
    assert min(found) >= 0
    if sum(weights) > 1e-3:
        exact = [total * weight / sum(weights) for weight in weights]
        assert all(abs(a - b) < 1.001 for a, b in zip(found, exact, strict=True))
    else:
        assert max(found) <= total


def test_shares_of_nothing() -> None:
    assert shares(7, []) == []
    assert shares(7, [0.0, 0.0]) == [4, 3]
    assert shares(10, [1, 1, 1]) == [4, 3, 3]
    assert shares(10, [0, 3, 1]) == [0, 8, 2]
