from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.pruning.least_squares import damped_change


@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_error_never_rises(seed: int, samples: int, with_bias: bool) -> None:
    """Also with fewer samples than inputs, and an input that is always 0 or repeats another."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(1.0, 2.0, (2, samples, 12))
    inputs[:, :, 3] = 0
    inputs[:, :, 4] = inputs[:, :, 5]
    errors = rng.normal(0.5, 1.0, (2, samples, 3))
    change = damped_change(inputs, errors, with_bias)
    left = errors - inputs @ change.weight.swapaxes(1, 2) - change.bias[:, None]
    assert np.square(left).sum() <= np.square(errors).sum() * (1 + 1e-12)
    np.testing.assert_allclose(change.weight[:, :, 3], 0, atol=1e-9)
    assert with_bias or not change.bias.any()


def test_no_error_is_no_change() -> None:
    inputs = np.random.default_rng(0).normal(size=(1, 30, 4))
    change = damped_change(inputs, np.zeros((1, 30, 2)), True)
    assert not change.weight.any()
    assert not change.bias.any()


def test_what_can_be_made_good_is() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(3.0, 1.0, (1, 400, 5))
    weight, bias = rng.normal(size=(2, 5)), rng.normal(size=2)
    errors = inputs @ weight.T + bias
    change = damped_change(inputs, errors, True)
    np.testing.assert_allclose(change.weight[0], weight, atol=1e-3)
    np.testing.assert_allclose(change.bias[0], bias, atol=1e-2)


def test_noise_is_damped_and_not_learnt() -> None:
    """As many inputs as samples: plain least squares would take all of the noise."""
    rng = np.random.default_rng(2)
    inputs, errors = rng.normal(size=(1, 64, 60)), rng.normal(size=(1, 64, 3))
    change = damped_change(inputs, errors, False)
    plain = np.linalg.lstsq(inputs[0], errors[0], rcond=None)[0].T
    assert np.square(change.weight).sum() < 0.05 * np.square(plain).sum()
