"""Statistics of channels, block by block, against numpy on all pictures at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.channel_stats import ChannelStats, channel_stats
from compress.errors import TaskError
from compress.graph import TensorId
from compress.task import Batch
from tests.digits import calibration, digits, trained
from tests.nets import digits_residual_spec

WANTED = TensorId("conv1", "conv2d"), TensorId("", "mean"), TensorId("", "input")


def whole(values: np.ndarray) -> ChannelStats:
    """(C, values) in one step."""
    wide = values.astype(np.float64)
    squares = ((wide - wide.mean(1, keepdims=True)) ** 2).sum(1)
    return ChannelStats(wide.shape[1], wide.mean(1), squares, wide.min(1), wide.max(1))


@given(first=st.integers(1, 20), second=st.integers(1, 20), seed=st.integers(0, 999))
def test_joined_is_that_of_all_values(first: int, second: int, seed: int) -> None:
    """Far from zero, where a difference of sums of squares would have lost all digits."""
    values = np.random.default_rng(seed).normal(1e6, 1.0, size=(3, first + second))
    found = whole(values[:, :first]).joined(whole(values[:, first:]))
    wanted = whole(values)
    assert found.count == wanted.count
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-12)
    np.testing.assert_allclose(found.deviation, wanted.deviation, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found.low, wanted.low)
    np.testing.assert_array_equal(found.high, wanted.high)


def test_of_a_net_over_all_batches() -> None:
    network = trained(digits_residual_spec).candidate.network
    found = channel_stats(network.graph, WANTED, calibration, network.input_shape, "test")
    seen = network.activations(digits()["calibration"].images)
    assert found.keys() == set(WANTED)
    for tensor, stats in found.items():
        wanted = whole(np.swapaxes(seen[tensor], 0, 1).reshape(seen[tensor].shape[1], -1))
        assert stats.count == wanted.count
        np.testing.assert_allclose(stats.mean, wanted.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(stats.deviation, wanted.deviation, rtol=1e-4)
        np.testing.assert_array_equal(stats.largest, np.maximum(-wanted.low, wanted.high))


def test_nothing_wanted_and_bad_pictures() -> None:
    network = trained(digits_residual_spec).candidate.network
    assert channel_stats(network.graph, (), calibration, network.input_shape, "test") == {}

    def bad() -> Iterator[Batch]:
        yield np.ones((1, 1, 8, 8), np.float32)
        yield np.full((1, 1, 8, 8), np.inf, np.float32)

    with pytest.raises(TaskError, match=r"test: calibration batch 2 gives NaN .* '/input#0'"):
        channel_stats(network.graph, WANTED, bad, network.input_shape, "test")
