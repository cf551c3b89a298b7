"""Bundles of every kind, folded and not folded by the engine: every tensor, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, shape_inference

from targets.formats import bundle_graph
from targets.formats.bundle_graph import write_bundles
from targets.formats.grouping import Bundle, Group, bundled, proposed
from targets.formats.integers import IntegerTensor, as_integers
from targets.formats.onnx_operators import Operators
from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.packing import Coded, same_bits
from targets.formats.prefix_tree import Integers
from targets.runtimes.onnxruntime import _open

Kind = Literal["int8", "grid", "book"]
STEP_BITS = 0.05
# Opset 18: what the compatible profile may hold.
OPSET = 18


def file_of(bundles: list[Bundle]) -> onnx.ModelProto:
    """A model without input, whose outputs are the tensors."""
    sheet = Sheet()
    write_bundles(Operators(sheet), bundles, STEP_BITS)
    outputs = [
        helper.make_tensor_value_info(
            tensor.name,
            TensorProto.INT8 if tensor.kind == "int8" else TensorProto.FLOAT,
            tensor.shape,
        )
        for bundle in bundles
        for tensor in bundle.tensors
    ]
    graph = helper.make_graph(sheet.nodes, "net", [], outputs, list(sheet.constants.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def check(bundles: list[Bundle]) -> None:
    """Valid by onnx's strict checks, and exact at ENABLE_ALL and DISABLE_ALL."""
    model = file_of(bundles)
    onnx.checker.check_model(model, full_check=True)
    shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    wanted = {t.name: t.decoded() for bundle in bundles for t in bundle.tensors}
    for optimize in (False, True):
        engine = _open(model.SerializeToString(), "the test", 1, optimize)
        found = dict(zip(wanted, engine.run(list(wanted), {}), strict=True))
        wrong = [name for name in wanted if not same_bits(found[name], wanted[name])]
        assert not wrong, (optimize, wrong)


def integers_of(random: np.random.Generator, size: int, spread: int, zeros: float) -> Integers:
    """Integers up to `spread` on both sides, mostly small; the greatest of them is there."""
    integers = np.rint(random.laplace(size=size) * spread / 6).astype(np.int64)
    integers = integers.clip(-spread, spread)
    integers[random.integers(size)] = spread
    integers[random.random(size) < zeros] = 0
    return integers


def scale_of(random: np.random.Generator, shape: tuple[int, ...], axis: int | None) -> Array:
    """One, or one for each channel of `axis`; some are negative."""
    wide = [1] * len(shape)
    if axis is not None:
        wide[axis] = shape[axis]
    return random.normal(size=wide).astype(np.float32)


SHAPES = [(1,), (3,), (8,), (17,), (500,), (5, 3), (24, 8), (3, 1, 3, 3), (7, 5, 3, 3)]


@st.composite
def tensors(draw: st.DrawFn) -> list[IntegerTensor]:
    """Up to 7 tensors of a few kinds; small ones, and such as are beyond int8."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    found: list[IntegerTensor] = []
    for number in range(draw(st.integers(1, 7))):
        shape = draw(st.sampled_from(SHAPES))
        kind = draw(st.sampled_from(["int8", "grid", "book"]))
        spread = draw(st.sampled_from([1, 2, 7, 40, 127, 128, 200, 3000, 16_000]))
        zeros = draw(st.sampled_from([0.0, 0.5, 0.9, 0.99]))
        size = int(np.prod(shape))
        integers = integers_of(random, size, spread, zeros)
        scale, book = None, None
        if kind == "int8":
            integers = (integers + 128) % 256 - 128
        else:
            axis = draw(st.sampled_from([None, "none", 0, len(shape) - 1]))
            scale = None if axis == "none" else scale_of(random, shape, axis)
        if kind == "book":
            integers = np.abs(integers)
            book = random.normal(size=spread + 1).astype(np.float32)
            book[0] = 0
        tensor = IntegerTensor(f"w{number}", shape, kind, integers, book, scale)
        decoded = tensor.decoded()
        minus = bool(np.any(decoded[np.signbit(decoded)] == 0))
        found.append(replace(tensor, negative_zeros=minus))
    return found


@given(tensors(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_is_bundled_comes_back(known: list[IntegerTensor], small: bool) -> None:
    """Both ways to end a bundle: all tensors together, and each by itself."""
    proposals = [p for p in (proposed(tensor, STEP_BITS) for tensor in known) if p is not None]
    if not proposals:
        return
    bundles = bundled(proposals, STEP_BITS)
    names = sorted(tensor.name for bundle in bundles for tensor in bundle.tensors)
    assert names == sorted(proposal.group.tensors[0].name for proposal in proposals)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_graph, "_MANY", 1 << 16 if small else 1)
        check(bundles)


def made(
    name: str, kind: Kind, spread: int, scale: str, shape: tuple[int, ...] = (7, 5, 3, 3)
) -> IntegerTensor:
    """A tensor of a kind, with zeros in gaps of up to 300, whose scales are below zero too."""
    random = np.random.default_rng(sum(map(ord, name + kind + scale)) + spread)
    integers = integers_of(random, int(np.prod(shape)), spread, 0.6)
    integers[5:305] = 0
    book = None
    if kind == "book":
        integers = np.abs(integers)
        book = random.normal(size=spread + 1).astype(np.float32)
    wide = None if scale == "none" else scale_of(random, shape, 0 if scale == "channels" else None)
    if wide is not None:
        wide.reshape(-1)[0] *= -np.sign(wide.reshape(-1)[0])
    tensor = IntegerTensor(name, shape, kind, integers, book, wide)
    return replace(tensor, negative_zeros=kind != "int8" and wide is not None)


CASES = [
    *product(["int8"], [7, 127, 128], ["none"]),
    *product(["grid", "book"], [7, 127, 128, 300], ["none", "one", "channels"]),
]


@pytest.mark.parametrize("many", [1, 1 << 16])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("kind", "spread", "scale"), CASES)
def test_every_kind(
    kind: Kind, sparse: bool, spread: int, scale: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two groups, of two tensors and one, where a bundle may hold them; with low bits, and not."""
    monkeypatch.setattr(bundle_graph, "_MANY", many)
    wide = spread > 127
    first, second, third = (made(name, kind, spread, scale) for name in ("w0", "w1", "w2"))
    if kind == "int8" and wide:
        first, second, third = (
            replace(t, integers=np.where(t.integers == 128, -128, t.integers))
            for t in (first, second, third)
        )
    low = 2 if wide else int(spread > 7)
    groups = Group((first, second), sparse, low, wide), Group((third,), sparse, low + 1, wide)
    if sparse and not wide:
        check([Bundle(groups)])
    else:
        check([Bundle((group,)) for group in groups])


@pytest.mark.parametrize(
    "ends", [(0, 0), (0, 1), (200, 1), (126, 1), (127, 0), (127, 127), (0, 300)]
)
def test_gaps_over_the_border_of_groups_and_tensors(ends: tuple[int, int]) -> None:
    """So many zeros at the end of each tensor, and at the start of the next."""
    behind, ahead = ends
    rim = np.zeros(ahead, np.int64), np.zeros(behind, np.int64)
    tensors = []
    for number, inside in enumerate(([3, 0, -2], [5], [1, 1, 0, 0, 9])):
        integers = np.concatenate([rim[0], np.array(inside), rim[1]])
        tensors.append(IntegerTensor(f"w{number}", integers.shape, "grid", integers))
    check(
        [Bundle((Group((tensors[0],), True, 0, False), Group(tuple(tensors[1:]), True, 1, False)))]
    )
    check([Bundle((Group(tuple(tensors), True, 0, False),))])


def test_a_negative_zero_of_one_is_not_made_by_another() -> None:
    """0.0 is added to all tensors of a bundle: `as_integers` takes none that has a -0.0."""
    integers = np.array([0, 1, -1, 0, 2])
    plus = IntegerTensor("w0", (5,), "grid", integers, None, np.array(-0.5, np.float32), True)
    minus = replace(plus, name="w1", negative_zeros=False)
    codes = Coded(integers % 4, np.array([0, 1, 2, -1], np.int8), np.array([-0.5], np.float32))
    assert np.signbit(minus.decoded()[0])
    assert as_integers("w1", minus.decoded(), codes) is None
    found = as_integers("w0", plus.decoded(), codes)
    assert found is not None
    assert found.negative_zeros
    positive = replace(plus, name="w2", scale=np.array(0.25, np.float32), negative_zeros=False)
    check([Bundle((Group((found, positive), False, 0, False),))])


@pytest.mark.parametrize(
    ("integers", "sparse"),
    [
        *product([[0], [0] * 9, [-127], [1] * 8], [False]),
        *product([[0, 0, 0, 1], [1, 0, 0, 0], [7]], [False, True]),
    ],
)
def test_a_lone_tensor_of_few_values(integers: list[int], sparse: bool) -> None:
    values = np.array(integers, np.int64)
    tensors = [
        IntegerTensor("w", values.shape, "int8", values),
        IntegerTensor("w", (*values.shape, 1), "grid", values),
    ]
    for tensor in tensors:
        check([Bundle((Group((tensor,), sparse, 0, False),))])
