"""AbsorbHighBias: what is never missed moves on exactly, and only where nothing else reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import Candidate
from compress.errors import StageOrderError
from compress.stages.absorb_bias import AbsorbHighBias
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from tests.candidates import fresh
from tests.digits import Trained, digits, digits_task
from tests.nets import digits_channels_last_spec, digits_plain_spec

PICTURES = digits()["validation"].images
HERE = "tests.compress.stages.test_absorb_bias"


class Pair(nn.Module):
    """conv -> between -> conv -> mean -> fc; the first bias so high that nothing is cut."""

    def __init__(
        self, between: Callable[[torch.Tensor], torch.Tensor], padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=padding, groups=groups)
        self.fc = nn.Linear(4, 10)
        self.between = between
        nn.init.uniform_(self.one.bias, 3, 4)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.two(self.between(self.one(x)))).mean((2, 3)))


def relu() -> nn.Module:
    return Pair(F.relu)


def depthwise() -> nn.Module:
    return Pair(F.relu, groups=4)


def padded() -> nn.Module:
    return Pair(F.relu, padding=1)


def relu6() -> nn.Module:
    return Pair(F.relu6)


def pooled() -> nn.Module:
    return Pair(lambda x: F.max_pool2d(F.relu(x), 3, 1, 1))


def averaged_with_zeros() -> nn.Module:
    return Pair(lambda x: F.avg_pool2d(F.relu(x), 3, 1, 1))


def doubled() -> nn.Module:
    return Pair(lambda x: F.relu(x) * 2)


def read_twice() -> nn.Module:
    return Pair(lambda x: F.relu(x) + x)


def build(name: str) -> tuple[Candidate, Task]:
    spec = dataclasses.replace(digits_plain_spec(), builder=f"{HERE}:{name}")
    return Candidate.untrained(spec, 0), digits_task()


@pytest.mark.parametrize("net", ["relu", "depthwise", "relu6", "pooled"])
def test_outputs_stay_where_nothing_falls_below(net: str) -> None:
    start, task = build(net)
    before = start.network.activations(PICTURES)
    result = AbsorbHighBias(6.0)(start, task)
    result.candidate.check()
    assert {"one", "two"} <= set(result.touched)
    wanted, found = start.predict(PICTURES), result.candidate.predict(PICTURES)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    after = result.candidate.network.activations(PICTURES)
    conv = next(t for t in before if t.module == "one")
    assert after[conv].min() > 0  # otherwise the test says nothing
    assert after[conv].max() < before[conv].max() - 0.5
    own, new = start.network.parameters(), result.candidate.network.parameters()
    assert all(np.array_equal(own[n], new[n]) for n in own if n.endswith("weight"))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        ("padded", "'two', which reads it, pads with zeros"),
        ("averaged_with_zeros", "avg_pool2d reads it, which is no layer"),
        ("doubled", "mul reads it, which is no layer"),
        ("read_twice", "no ReLU follows, or not that alone"),
    ],
)
def test_what_would_not_be_exact_is_skipped(net: str, reason: str) -> None:
    start, task = build(net)
    result = AbsorbHighBias()(start, task)
    assert {s.layer: s.reason for s in result.skipped}["one"] == reason
    own, new = start.network.parameters(), result.candidate.network.parameters()
    np.testing.assert_array_equal(own["one.bias"], new["one.bias"])


def test_a_linear_layer_over_more_axes_is_left_alone() -> None:
    start = fresh(digits_channels_last_spec)
    result = AbsorbHighBias()(start, digits_task())
    assert result.touched == ()
    assert {s.layer: s.reason for s in result.skipped}["one"] == (
        "its channels are not the second axis"
    )


def test_a_channel_that_reaches_the_clip_keeps_its_bias() -> None:
    start, task = build("relu6")
    own = start.network.parameters()
    high = own["one.bias"].copy()
    high[1] = 5.9
    result = AbsorbHighBias()(start.with_values({"one.bias": high}, {}), task)
    new = result.candidate.network.parameters()["one.bias"]
    assert new[1] == high[1]
    assert (new[[0, 2, 3]] < high[[0, 2, 3]]).all()


def test_the_amount_is_mean_less_deviations() -> None:
    start, task = build("relu")
    values = start.network.activations(digits()["calibration"].images)
    conv = values[next(t for t in values if t.module == "one")].astype(np.float64)
    wanted = conv.mean((0, 2, 3)) - 2 * conv.std((0, 2, 3))
    new = AbsorbHighBias(2.0)(start, task).candidate.network.parameters()
    moved = start.network.parameters()["one.bias"] - new["one.bias"]
    np.testing.assert_allclose(moved, np.maximum(wanted, 0), atol=1e-5)


def test_low_channels_stay_and_order_is_checked(
    trained_residual: Trained, trained_plain: Trained
) -> None:
    result = AbsorbHighBias(8.0)(*trained_plain)
    assert result.touched == ()
    assert {s.layer: s.reason for s in result.skipped} == {
        "fc1": "no channel's mean lies 8 deviations above 0",
        "fc2": "no ReLU follows, or not that alone",
    }
    with pytest.raises(StageOrderError, match="put FoldBatchNorm before AbsorbHighBias"):
        AbsorbHighBias()(*trained_residual)
    int8 = QuantizeInt8()(*trained_plain).candidate
    late = AbsorbHighBias()(int8, trained_plain.task)
    assert late.candidate is int8
    assert late.touched == ()
