"""Streams of symbols planted as a forest and harvested again; known bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from targets.formats.forest import INNER, Forest, harvested, planted
from targets.formats.forest_graph import PLANES, TREE, Forester, Planes
from targets.formats.onnx_operators import Operators
from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.prefix_tree import Integers, Tree, grown
from targets.runtimes.onnxruntime import _open


def tree_for(stream: Integers, step_bits: float = 0.0) -> Tree:
    values, counts = np.unique(stream, return_counts=True)
    return grown(values, counts, step_bits, 12)[0]


def forest_of(streams: list[Integers], step_bits: float = 0.0) -> Forest:
    return planted([tree_for(stream, step_bits) for stream in streams], streams)


def in_engine(forest: Forest, optimize: bool) -> list[Array]:
    sheet, planes = Sheet(), Planes()
    to = Operators(sheet)
    forester = Forester(to, forest, planes)
    planes.write(to)
    names = forester.streams()
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT8, [None]) for name in names]
    graph = helper.make_graph(sheet.nodes, "net", [], outputs, list(sheet.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return list(_open(model.SerializeToString(), "the test", 1, optimize).run(names, {}))


@st.composite
def streams(draw: st.DrawFn) -> list[Integers]:
    """Up to 6 streams of 1 to 200 symbols, of one value to 255, of every width of first digit."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    found: list[Integers] = []
    for _ in range(draw(st.integers(1, 6))):
        size = draw(st.sampled_from([1, 2, 7, 8, 9, 64, 200]))
        alphabet = random.permutation(np.arange(-127, 128))[: draw(st.integers(1, 255))]
        steepness = draw(st.sampled_from([0.0, 1.0, 3.0]))
        shares = np.exp(-steepness * np.arange(alphabet.size))
        found.append(random.choice(alphabet, size, p=shares / shares.sum()).astype(np.int64))
    return found


@given(streams(), st.sampled_from([0.0, 0.05, 4.0]))
@settings(max_examples=100, deadline=None)
def test_what_is_planted_is_harvested(known: list[Integers], step_bits: float) -> None:
    forest = forest_of(known, step_bits)
    found = harvested(forest)
    assert len(found) == len(known)
    for symbols, own in zip(found, known, strict=True):
        assert symbols.dtype == np.int8
        np.testing.assert_array_equal(symbols, own)
    assert all(root % 2 == 0 for heads in forest.heads for root in heads.roots)
    assert all(
        sum(octets.size for octets in heads.planes.values()) == sum(heads.octets) * heads.first
        for heads in forest.heads
    )


@given(streams(), st.sampled_from([0.0, 4.0]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_engine_takes_the_same_steps(
    known: list[Integers], step_bits: float, optimize: bool
) -> None:
    for symbols, own in zip(in_engine(forest_of(known, step_bits), optimize), known, strict=True):
        np.testing.assert_array_equal(symbols, own)


def test_known_bytes() -> None:
    """Words 0, 10, 11 for 5, 6, 7, and two digits at once for 1 to 4: the wider tree lies last."""
    wide = Tree(np.array([1, 2, 3, 4]), np.zeros(4, np.uint8), 2)
    deep = Tree(np.array([5, 6, 7]), np.array([0, 1, 1], np.uint8), 1)
    forest = planted(
        [wide, deep], [np.array([1, 4, 2, 3, 3, 3, 1, 1, 2]), np.array([5, 6, 7, 6, 5])]
    )
    assert forest.table.tolist() == [0, 0, 1, 2, 3, 4, 5, INNER, 6, 7]
    assert forest.children == 8
    narrow, broad = forest.heads
    assert (narrow.first, narrow.roots, narrow.octets) == (1, (6,), (1,))
    assert (broad.first, broad.roots, broad.octets) == (2, (2,), (2,))
    assert {w: p.tolist() for w, p in narrow.planes.items()} == {1: [0b01110000]}
    assert {w: p.tolist() for w, p in broad.planes.items()} == {
        2: [0b00110110, 0b10100000, 0b01000000, 0]
    }
    assert (forest.levels, forest.deep.tolist()) == ((4,), [0b00100000])
    assert (forest.sizes, forest.cuts, forest.places) == ((5, 9), (5, 3, 9, 7), (1, 0))


def test_words_of_three_bits_stand_in_two_planes() -> None:
    tree = Tree(np.arange(8), np.zeros(8, np.uint8), 3)
    forest = planted([tree], [np.arange(8)])
    (heads,) = forest.heads
    assert {w: p.tolist() for w, p in heads.planes.items()} == {
        2: [0b00000101, 0b10101111],
        1: [0b01010101],
    }
    assert forest.levels == ()
    for optimize in (False, True):
        np.testing.assert_array_equal(in_engine(forest, optimize)[0], np.arange(8))


def test_the_deepest_tree_and_one_of_a_single_value() -> None:
    """12 digits after the first: nothing is lost where other streams have ended long before."""
    chain = np.repeat(np.arange(14), 1 << np.arange(13, -1, -1))
    known = [np.full(3, -127), np.random.default_rng(0).permutation(chain), np.array([9, -9])]
    forest = forest_of(known)
    assert len(forest.levels) == 12
    for found in (harvested(forest), in_engine(forest, True)):
        for symbols, own in zip(found, known, strict=True):
            np.testing.assert_array_equal(symbols, own)


@pytest.mark.parametrize("trees", [2046, 2050, 4100])
def test_tables_beyond_16_bits(trees: int) -> None:
    """16 entries for each root: the greatest of them passes 32,767."""
    known = [np.array([number % 200 - 100]) for number in range(trees)]
    forest = planted([Tree(own, np.zeros(1, np.uint8), 4) for own in known], known)
    assert forest.table.size == 2 + 16 * trees
    np.testing.assert_array_equal(np.concatenate(in_engine(forest, False)), np.concatenate(known))


def test_the_graph_has_two_constants_of_its_bits() -> None:
    forest = forest_of([np.array([1, 1, 2, 3] * 9), np.array([4, 5] * 11)])
    sheet, planes = Sheet(), Planes()
    to = Operators(sheet)
    forester = Forester(to, forest, planes)
    planes.write(to)
    forester.streams()
    assert sheet.value(TREE).dtype == np.int8
    bits = sum(octets.size for heads in forest.heads for octets in heads.planes.values())
    assert sheet.value(PLANES).size == bits + forest.deep.size
    told = [name for name in sheet.constants if len(name) > 4]
    assert sorted(told) == [PLANES, TREE]
