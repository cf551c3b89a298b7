"""Every split by every measure: full rank is the weight, the error is the one that was foretold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.factoring.forms import Form, forms_of, product, weights_of
from compress.factoring.measure import Measure
from compress.split_layers import SPLITS

kernels = st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda k: k != (1, 1))


def moment(size: int, seed: int) -> np.ndarray:
    """Positive definite, its values over three magnitudes."""
    generator = np.random.default_rng(seed)
    seen = generator.standard_normal((size, 2 * size)) * np.geomspace(1, 30, size)[:, None]
    return seen @ seen.T / size


def measures(rows: int, columns: int, seed: int) -> list[Measure]:
    inputs, outputs = moment(columns, seed), moment(rows, seed + 1)
    return [Measure(), Measure(inputs), Measure(inputs, outputs), Measure(None, outputs)]


def cost(measure: Measure, weight: np.ndarray, form: Form, way: Measure) -> float:
    error = weight - product(form, weights_of(weight, way, form))
    return measure.cost(error.reshape(len(weight), -1))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SPLITS),
    st.integers(1, 7),
    st.integers(1, 7),
    kernels,
    st.integers(0, 3),
    st.integers(0, 99),
)
def test_errors_are_foretold_and_never_above_the_plain_ones(
    split: str, rows: int, channels: int, kernel: tuple[int, int], which: int, seed: int
) -> None:
    weight = np.random.default_rng(seed).standard_normal((rows, channels, *kernel))
    measure = measures(rows, channels * kernel[0] * kernel[1], seed)[which]
    total = measure.cost(weight.reshape(rows, -1))
    forms = forms_of(weight, measure, (split,))
    for number in range(0, len(forms.errors), max(1, len(forms.errors) // 6)):
        form = forms.at(number)
        real, told = cost(measure, weight, form, measure), forms.errors[number]
        if split == "tucker":  # the iteration only betters what was foretold
            assert real <= told * (1 + 1e-4) + 1e-9 * total
        else:
            assert real == pytest.approx(told, rel=1e-4, abs=1e-9 * total)
        # Spatial filters are those of a separable measure: theirs is no bound.
        if split == "channel":
            assert real <= cost(measure, weight, form, Measure()) * (1 + 1e-6) + 1e-9 * total
    every = forms.ranks[:, 0] if split != "tucker" else forms.ranks.sum(axis=1)
    full = forms.at(int(every.argmax()))
    found = product(full, weights_of(weight, measure, full))
    np.testing.assert_allclose(found, weight, atol=1e-5 * np.abs(weight).max())


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_plain_spatial_split_is_the_truncated_decomposition(rank: int) -> None:
    weight = np.random.default_rng(0).standard_normal((6, 5, 3, 3))
    matrix = weight.transpose(1, 2, 0, 3).reshape(15, 18)
    values = np.linalg.svd(matrix, compute_uv=False)
    found = cost(Measure(), weight, Form("spatial", rank), Measure())
    assert found == pytest.approx((values[rank:] ** 2).sum(), rel=1e-5)


def test_tucker_iterates() -> None:
    """Better than the truncated higher-order decomposition, which it starts from."""
    weight = np.random.default_rng(1).standard_normal((12, 12, 3, 3))
    out = np.linalg.svd(weight.reshape(12, -1))[0][:, :4]
    inner = np.linalg.svd(weight.transpose(1, 0, 2, 3).reshape(12, -1))[0][:, :4]
    start = np.einsum("op,qp,ci,di,qdyx->ocyx", out, out, inner, inner, weight, optimize=True)
    found = cost(Measure(), weight, Form("tucker", 4, 4), Measure())
    assert found < 0.995 * ((weight - start) ** 2).sum()


@pytest.mark.parametrize("split", SPLITS)
def test_channels_between_two_layers_are_balanced(split: str) -> None:
    weight = np.random.default_rng(2).standard_normal((8, 6, 3, 3))
    form = Form(split, 4, 3 if split == "tucker" else 0)
    thin = weights_of(weight, Measure(moment(54, 0)), form)
    for one, two in itertools.pairwise(thin):
        before = np.linalg.norm(one.reshape(len(one), -1), axis=1)
        behind = np.linalg.norm(np.moveaxis(two, 1, 0).reshape(len(one), -1), axis=1)
        if two is thin[-1] and split != "tucker":
            np.testing.assert_allclose(before, behind, rtol=1e-4)
        assert (before > 0).all()
    again = weights_of(weight, Measure(moment(54, 0)), form)
    assert all(np.array_equal(a, b) for a, b in zip(thin, again, strict=True))


def test_a_dead_layer_stays_dead() -> None:
    weight = np.zeros((4, 3, 3, 3))
    for split in SPLITS:
        form = Form(split, 2, 2 if split == "tucker" else 0)
        thin = weights_of(weight, Measure(moment(27, 0), moment(4, 1)), form)
        assert all(np.isfinite(factor).all() for factor in thin)
        assert not product(form, thin).any()
