"""Scales of least expected loss: where the best ones are known by hand, and never worse."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from compress.channel_balance import Columns, GridTensors, balance

FREE = np.zeros(2, np.bool_)


def tensor(*widths: float) -> GridTensors:
    high = np.array(widths)
    return GridTensors(np.arange(len(high)), np.zeros(len(high)), high, np.ones(len(high)))


def test_without_weights_the_noise_of_equal_widths_is_reached() -> None:
    """Range R, noise R^2 (s1^2 + s2^2): least at s2 / s1 = 20, and flat below it."""
    found = balance([tensor(1.0, 20.0)], [], FREE)
    assert 10 < found.scales[1] / found.scales[0] < 20.1
    assert found.before == pytest.approx((20 / 255) ** 2 * 2 / 24)
    # 20^2 * 2 before; with s = (1, 20) the range is 1 and the noise 1 + 400.
    assert found.after == pytest.approx((1 / 255) ** 2 * 401 / 24, rel=0.02)


def test_without_tensors_a_rows_columns_become_equal() -> None:
    """The step is max(s1, 0.05 s2), its cost step^2 (1 / s1^2 + 1 / s2^2): 2, at best 1.0025."""
    columns = Columns(np.arange(2), np.array([[1.0, 0.05]]), np.ones((1, 2)))
    found = balance([], [columns], FREE)
    assert found.after == pytest.approx(found.before * 1.0025 / 2, rel=0.01)


def test_fewer_levels_give_the_weights_more_of_a_say() -> None:
    """The tensor asks for s2 / s1 = 20, the row for 1 / 20: coarse rows have their way."""
    ratios: list[float] = []
    for bits in (8, 4, 2):
        weights = Columns(
            np.arange(2), np.array([[0.05, 1.0]]), np.ones((1, 2)), levels=2.0 ** (bits - 1) - 1
        )
        found = balance([tensor(1.0, 20.0)], [weights], FREE)
        ratios.append(float(found.scales[1] / found.scales[0]))
    assert ratios[0] > 1.1 * ratios[1] > 1.1**2 * ratios[2]


def test_fixed_channels_keep_their_scale() -> None:
    found = balance([tensor(1.0, 20.0, 3.0)], [], np.array([False, True, True]))
    assert list(found.scales[1:]) == [1.0, 1.0]
    assert found.after <= found.before


def test_a_scale_keeps_above_its_floor() -> None:
    found = balance([tensor(1.0, 20.0)], [], FREE, np.array([0.5, 0.1]))
    assert found.scales[0] >= 0.5
    assert found.after < found.before


def test_where_nothing_can_be_scaled_nothing_is() -> None:
    found = balance([tensor(1.0, 20.0)], [], ~FREE)
    assert (found.scales == 1).all()
    assert found.before == found.after == 0


def test_channels_that_are_tied_move_together() -> None:
    """One number in two tensors: each wants another factor, both get one."""
    one, other = tensor(1.0, 20.0), tensor(20.0, 1.0)
    found = balance([one, other], [], FREE)
    assert found.scales[1] / found.scales[0] == pytest.approx(1, rel=0.02)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_loss_never_grows_and_repeats(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 6))
    widths = generator.lognormal(0, 2, count)
    tensors = [
        GridTensors(np.arange(count), -widths, widths, generator.lognormal(0, 2, count)),
    ]
    layers = [
        Columns(np.arange(count), *generator.lognormal(0, 1, (2, 3, count))),
    ]
    fixed = generator.random(count) < 0.3
    found = balance(tensors, layers, fixed)
    assert found.after <= found.before
    assert (found.scales > 0).all()
    np.testing.assert_array_equal(found.scales, balance(tensors, layers, fixed).scales)
