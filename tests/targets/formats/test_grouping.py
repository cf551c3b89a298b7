"""Integers put into symbols, and which of them share a code."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.formats.forest import LARGEST
from targets.formats.grouping import FARTHEST, Bundle, Group, bundled, grown_for, proposed
from targets.formats.integers import IntegerTensor
from targets.formats.prefix_tree import Integers

STEP_BITS = 0.05
Kind = Literal["int8", "grid", "book"]


def tensor_of(integers: Integers, name: str = "w", kind: Kind = "grid") -> IntegerTensor:
    return IntegerTensor(name, integers.shape, kind, integers)


def laplace(seed: int, size: int, spread: float, zeros: float = 0.0) -> Integers:
    random = np.random.default_rng(seed)
    integers = np.rint(random.laplace(size=size) * spread).clip(-127, 127).astype(np.int64)
    integers[random.random(size) < zeros] = 0
    return integers


def grouped(tensors: list[IntegerTensor]) -> list[Bundle]:
    proposals = [proposed(tensor, STEP_BITS) for tensor in tensors]
    return bundled([p for p in proposals if p is not None], STEP_BITS)


def names(bundles: list[Bundle]) -> list[list[str]]:
    """Of each group."""
    return [[t.name for t in group.tensors] for bundle in bundles for group in bundle.groups]


@st.composite
def sparse_tensors(draw: st.DrawFn) -> list[Integers]:
    """Each has an element that is not zero; gaps of up to 400."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    found: list[Integers] = []
    for _ in range(draw(st.integers(1, 5))):
        gaps = random.integers(0, draw(st.sampled_from([1, 9, 400])), draw(st.integers(1, 20)))
        values = random.choice([-127, -3, 1, 2, 126], gaps.size)
        pairs = zip(gaps, values, strict=True)
        parts = [np.append(np.zeros(gap, np.int64), value) for gap, value in pairs]
        end = np.zeros(draw(st.sampled_from([0, 1, 126, 127, 300])), np.int64)
        found.append(np.concatenate([*parts, end]))
    return found


@given(sparse_tensors(), st.integers(0, 1), st.booleans())
def test_steps_and_elements_give_the_integers_back(
    known: list[Integers], low: int, apart: bool
) -> None:
    tensors = [tensor_of(integers) for integers in known]
    groups = [(t,) for t in tensors] if apart else [tuple(tensors)]
    bundle = Bundle(tuple(Group(own, True, low, False) for own in groups))
    assert bundle.size == sum(integers.size for integers in known)
    found = np.zeros(bundle.size, np.int64)
    place, end = -1, 0
    for group, (steps, elements) in zip(bundle.groups, bundle.told, strict=True):
        assert elements.size
        assert 1 <= steps.min() <= steps.max() <= FARTHEST
        places = place + np.cumsum(steps)
        assert end <= places[0]
        place, end = int(places[-1]), end + group.integers.size
        assert place < end
        found[places] = elements
    np.testing.assert_array_equal(found, np.concatenate(known))
    streams = bundle.streams()
    assert [s.size for s in streams] == [x.size for steps, e in bundle.told for x in (steps, e)]


@pytest.mark.parametrize(
    ("integers", "steps", "elements"),
    [
        ([5], [1], [5]),
        ([0, 0, 5, 0, -1, 0], [3, 2], [5, -1]),
        ([0] * 126 + [1], [127], [1]),
        ([0] * 127 + [1], [127, 1], [0, 1]),
        ([2] + [0] * 254 + [1], [1, 127, 127, 1], [2, 0, 0, 1]),
    ],
)
def test_known_steps(integers: list[int], steps: list[int], elements: list[int]) -> None:
    bundle = Bundle((Group((tensor_of(np.array(integers)),), True, 0, False),))
    ((ahead, kept),) = bundle.told
    assert (ahead.tolist(), kept.tolist()) == (steps, elements)


@given(
    st.lists(st.integers(-16000, 16000), min_size=1, max_size=40), st.integers(0, 7), st.booleans()
)
def test_code_and_low_bits_are_the_integer(integers: list[int], low: int, wide: bool) -> None:
    values = np.array(integers)
    group = Group((tensor_of(values),), False, low, wide)
    codes, rest = group.codes(values), values & (1 << low) - 1
    np.testing.assert_array_equal(codes << low | rest if wide else codes | rest, values)
    assert wide or not np.any(codes & (1 << low) - 1)


def test_many_zeros_are_told_by_steps() -> None:
    for zeros, sparse in ((0.95, True), (0.0, False)):
        found = proposed(tensor_of(laplace(1, 4000, 8, zeros)), STEP_BITS)
        assert found is not None
        assert found.group.sparse == sparse


def test_random_low_bits_stand_beside_the_code() -> None:
    random = np.random.default_rng(2)
    found = proposed(tensor_of(random.integers(0, 64, 3000)), STEP_BITS)
    assert found is not None
    assert found.group.low >= 2
    few = proposed(
        tensor_of(random.choice([0, 1, -1, 64], 3000, p=[0.7, 0.1, 0.1, 0.1])), STEP_BITS
    )
    assert few is not None
    assert few.group.low == 0


@pytest.mark.parametrize(
    ("integers", "low"),
    [
        ([1, 127], 0),
        ([1, -128], 1),
        ([1, 128], 1),
        ([0, -16256], 7),  # -127 << 7
        ([0, 16383], 7),
        ([0, 16384], None),
        ([0, -16257], None),
        ([], None),
    ],
)
def test_wide_integers_need_low_bits(integers: list[int], low: int | None) -> None:
    found = proposed(tensor_of(np.array(integers * 500, np.int64)), STEP_BITS)
    if low is None:
        assert found is None
        return
    assert found is not None
    assert found.group.low >= low
    assert found.group.wide == (low > 0)
    for stream in Bundle((found.group,)).streams():
        assert -LARGEST <= stream.min() <= stream.max() <= LARGEST


def test_alike_tensors_share_a_code_and_others_do_not() -> None:
    small = [tensor_of(laplace(n, 600, 3), f"a{n}") for n in range(4)]
    large = [tensor_of(laplace(9, 60_000, 40), "b"), tensor_of(laplace(10, 60_000, 0.4), "c")]
    bundles = grouped([*small, *large])
    assert sorted(map(sorted, names(bundles))) == [["a0", "a1", "a2", "a3"], ["b"], ["c"]]
    assert all(len(bundle.groups) == 1 for bundle in bundles)


def test_sharing_takes_fewer_bits() -> None:
    """Symbols and entries of the table together."""
    tensors = [tensor_of(laplace(n, 600, 3), f"a{n}") for n in range(6)]
    apart = [Bundle((Group((tensor,), False, 0, False),)) for tensor in tensors]
    bits = {}
    for name, bundles in {"shared": grouped(tensors), "apart": apart}.items():
        trees, streams = grown_for(bundles, STEP_BITS)
        assert len(trees) == len(streams)
        bits[name] = 16 * sum(tree.values.size for tree in trees)
        for tree, stream in zip(trees, streams, strict=True):
            counts = np.array([np.count_nonzero(stream == value) for value in tree.values])
            assert counts.sum() == stream.size
            bits[name] += int(tree.cost(counts, 0.0))
    assert bits["shared"] < 0.9 * bits["apart"]


def test_what_cannot_share_does_not() -> None:
    """int8 with float, sparse with whole, wide with narrow; sparse ones are one bundle."""
    one = laplace(3, 900, 3)
    tensors = [
        tensor_of(one.copy(), "a"),
        tensor_of(one.copy(), "b", "int8"),
        tensor_of(one * 40, "c"),
        tensor_of(laplace(4, 9000, 30, 0.97), "d"),
        tensor_of(laplace(5, 90_000, 1, 0.97), "e"),
    ]
    bundles = grouped(tensors)
    assert sorted(sorted(t.name for t in b.tensors) for b in bundles) == [
        ["a"], ["b"], ["c"], ["d", "e"]
    ]  # fmt: skip
    for bundle in bundles:
        kinds = {(t.kind, g.sparse, g.wide) for g in bundle.groups for t in g.tensors}
        assert len(kinds) == 1


def test_equal_tensors_give_equal_groups() -> None:
    tensors = [tensor_of(laplace(n % 3, 500 + n, 3, 0.3 * (n % 2)), f"w{n}") for n in range(8)]
    first, second = grouped(tensors), grouped(list(tensors))
    assert names(first) == names(second)
    assert [g.low for b in first for g in b.groups] == [g.low for b in second for g in b.groups]
