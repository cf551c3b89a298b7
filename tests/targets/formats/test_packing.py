from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from targets.formats.onnx_operators import Operators, embedded_bytes
from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.packing import (
    Coded,
    Packed,
    forms,
    plane,
    plane_widths,
    rows,
    same_bits,
    unpack,
)
from targets.formats.unpacking import Unpacker
from targets.runtimes.onnxruntime import _open

Draw = Callable[[st.SearchStrategy], object]
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=7)


def file_of(packed: Packed, opset: int = 18) -> onnx.ModelProto:
    """A model whose output is the tensor `w` plus nothing: it has no input."""
    sheet = Sheet()
    Unpacker(Operators(sheet)).write("w", packed)
    kind = TensorProto.INT8 if unpack(packed).dtype == np.int8 else TensorProto.FLOAT
    graph = helper.make_graph(
        sheet.nodes,
        "net",
        [],
        [helper.make_tensor_value_info("w", kind, packed.shape)],
        list(sheet.constants.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def in_engine(packed: Packed, optimize: bool, opset: int = 18) -> Array:
    model = file_of(packed, opset)
    onnx.checker.check_model(model, full_check=True)
    engine = _open(model.SerializeToString(), "the test", 1, optimize)
    return engine.run(["w"], {})[0]


@st.composite
def coded(draw: st.DrawFn) -> Coded:
    """Codes of 1 to 10 bits, dense or sparse, with or without a scale, of floats or integers."""
    shape = draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    size = draw(st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33, 100, 256, 257, 1000]))
    integers = draw(st.booleans()) and size <= 256
    if integers:
        book = random.permutation(np.arange(-128, 128))[:size].astype(np.int8)
    else:
        book = random.normal(size=size).astype(draw(st.sampled_from(["float16", "float32"])))
        book = book.astype(np.float32)
    book[0] = 0
    indices = random.integers(0, size, shape).astype(np.uint16)
    indices[random.random(shape) < draw(st.sampled_from([0.0, 0.7, 1.0]))] = 0
    scale = None
    if draw(st.booleans()):
        axis = draw(st.integers(0, len(shape) - 1))
        wide = [1] * len(shape)
        wide[axis] = shape[axis]
        scale = random.normal(size=wide).astype(np.float32)
    return Coded(indices, book, scale)


def decoded(what: Coded) -> Array:
    values = what.book[what.indices]
    if what.scale is None:
        return values
    return values.astype(np.float32) * what.scale + np.float32(0)


@given(coded(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_form_gives_the_tensor_in_numpy_and_in_the_engine(what: Coded, nibbles: bool) -> None:
    tensor = decoded(what)
    found = list(forms(tensor, what, nibbles))
    assert found
    for form in found:
        assert same_bits(unpack(form), tensor)
        for optimize in (False, True):
            assert same_bits(in_engine(form, optimize, 21 if nibbles else 18), tensor)


@given(SHAPES, st.floats(0, 1), st.integers(0, 1 << 30), st.sampled_from(["float16", "float32"]))
@settings(max_examples=30, deadline=None)
def test_what_no_code_explains_is_masked_or_halved(
    shape: tuple[int, ...], density: float, seed: int, kind: str
) -> None:
    random = np.random.default_rng(seed)
    tensor = random.normal(size=shape).astype(kind).astype(np.float32)
    tensor[random.random(shape) > density] = 0
    tensor.flat[0] = -0.0
    halves = 0
    for form in forms(tensor, None):
        assert same_bits(in_engine(form, True), tensor)
        halves += form.parts["values"].dtype == np.float16
    assert halves == (2 if kind == "float16" or not np.any(tensor) else 0)


@given(st.sampled_from([1, 2, 4]), st.integers(0, 9), st.data())
def test_planes(width: int, octets: int, data: st.DataObject) -> None:
    codes = data.draw(
        arrays.arrays(np.uint8, 8 * octets, elements=st.integers(0, (1 << width) - 1))
    )
    packed = plane(codes, width)
    assert packed.size == octets * width
    np.testing.assert_array_equal(rows(width)[packed].reshape(-1), codes)


def test_known_bytes() -> None:
    codes = np.array([1, 2, 3, 0, 1, 1, 2, 3], np.uint8)
    assert plane(codes, 4).tolist() == [0x12, 0x30, 0x11, 0x23]
    assert plane(codes, 2).tolist() == [0b01101100, 0b01011011]
    assert plane(codes & 1, 1).tolist() == [0b10101101]
    assert rows(2)[0b01101100].tolist() == [1, 2, 3, 0]
    widths = [plane_widths(bits) for bits in range(1, 10)]
    assert widths == [(1,), (2,), (2, 1), (4,), (4, 1), (4, 2), (4, 2, 1), (8,), (16,)]


def test_six_bits_are_planes_of_four_and_two_and_the_mask_drops_the_zeros() -> None:
    book = np.concatenate([[0], np.arange(1, 33) / 7]).astype(np.float32)
    indices = np.zeros(100, np.uint8)
    indices[::3] = np.arange(34) % 33
    what = Coded(indices, book)
    dense, sparse = forms(decoded(what), what)
    assert {part: a.size for part, a in dense.parts.items()} == {
        "codes4": 52, "codes2": 26, "book": 33
    }  # fmt: skip
    kept = int(np.count_nonzero(indices))
    assert sparse.parts["mask"].size == 13
    assert sparse.parts["codes4"].size == -(-(kept + 1) // 8) * 4


def test_codes_that_nothing_uses_cost_nothing() -> None:
    book = np.concatenate([[0], np.arange(1, 200)]).astype(np.float32)
    what = Coded(np.array([[0, 7, 199], [7, 7, 0]], np.uint8), book)
    dense, _ = forms(decoded(what), what)
    assert set(dense.parts) == {"codes2", "book"}
    assert dense.parts["book"].tolist() == [0, 7, 199, 0]  # filled up to the plane's 4 codes


def test_zeros_under_a_negative_scale_are_positive() -> None:
    """The law of Encoded: zero times a negative scale is 0.0, not -0.0."""
    scale = np.array([[0.3], [-0.3]], np.float32)
    what = Coded(np.array([[0, 1], [0, 1]], np.uint8), np.array([0, 3], np.int8), scale)
    tensor = decoded(what)
    assert not np.signbit(tensor[1, 0])
    found = list(forms(tensor, what))
    assert all(form.negative_zeros for form in found)
    for form in found:
        for optimize in (False, True):
            assert same_bits(in_engine(form, optimize), tensor)


def test_codes_that_do_not_explain_the_tensor_are_no_form() -> None:
    what = Coded(np.array([0, 1, 1], np.uint8), np.array([0, 0.5], np.float32))
    tensor = np.array([0, 0.5, 0.25], np.float32)
    assert not list(forms(tensor, what))


@pytest.mark.parametrize("bits", range(1, 11))
def test_cost_is_what_the_file_grows_by(bits: int) -> None:
    random = np.random.default_rng(bits)
    book = np.concatenate([[0], random.normal(size=(1 << bits) - 1)]).astype(np.float32)
    indices = random.integers(0, 1 << bits, (40, 33)).astype(np.uint16)
    what = Coded(indices, book)
    sheet = Sheet()
    unpacker = Unpacker(Operators(sheet))
    for number, form in enumerate([*forms(decoded(what), what)] * 2):
        graph = onnx.GraphProto()
        graph.node.extend(sheet.nodes)
        graph.initializer.extend(sheet.constants.values())
        before = graph.ByteSize()
        cost = unpacker.cost(f"w{number}", form)
        assert (len(graph.node), graph.ByteSize()) == (len(sheet.nodes), before)
        unpacker.write(f"w{number}", form)
        after = onnx.GraphProto()
        after.node.extend(sheet.nodes)
        after.initializer.extend(sheet.constants.values())
        assert after.ByteSize() - before == cost


def test_embedded_bytes_counts_tag_and_length() -> None:
    for size in (0, 1, 119, 200, 40_000):
        tensor = numpy_helper.from_array(np.zeros(size, np.uint8), "w")
        graph = onnx.GraphProto(initializer=[tensor])
        assert graph.ByteSize() == embedded_bytes(tensor)
