"""Bundles of every kind, folded and not folded by the engine: every tensor, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, shape_inference

from targets.formats import bundle_graph
from targets.formats.bundle_graph import write_bundles
from targets.formats.grouping import Bundle, bundled, proposed
from targets.formats.integers import IntegerTensor
from targets.formats.onnx_operators import Operators
from targets.formats.onnx_sheet import Array, Sheet
from targets.formats.packing import same_bits
from targets.formats.prefix_tree import Integers
from targets.runtimes.onnxruntime import _open

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
        spread = draw(st.sampled_from([1, 2, 7, 40, 127, 128, 200, 3000]))
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
    proposals = proposed(known, STEP_BITS)
    if not proposals:
        return
    bundles = bundled(proposals.values(), STEP_BITS)
    names = sorted(t.name for bundle in bundles for t in bundle.tensors)
    assert names == sorted(proposals)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_graph, "_MANY", 1 << 16 if small else 1)
        check(bundles)
