"""EqualizeRanges: float outputs stay, ranges meet, one grid for all channels serves again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.candidate import Candidate
from compress.channel_groups import channel_groups
from compress.channel_scaling import scaled_channels
from compress.encoding import Encoded, Masked
from compress.errors import EncodingError, StageOrderError, TaskError
from compress.stages.equalize_ranges import EqualizeRanges
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from tests.digits import Trained, digits

PICTURES = digits()["validation"].images
SEEN = digits()["calibration"].images


@pytest.fixture(scope="module")
def residual(trained_residual: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_residual).candidate, trained_residual.task)


@pytest.fixture(scope="module")
def branch(trained_branch: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_branch).candidate, trained_branch.task)


def spoilt(candidate: Candidate, seed: int) -> Candidate:
    """The same function, ranges of channels up to 2**8 apart: what training may leave."""
    groups = channel_groups(candidate.network.graph)
    count = len(groups.ceilings)
    free = ~np.isin(np.arange(count), list(groups.fixed)) & np.isinf(groups.ceilings)
    power = np.random.default_rng(seed).integers(-4, 5, count)
    return scaled_channels(candidate, groups, np.where(free, np.exp2(power), 1.0))


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("by", ["weights", "activations", "loss"])
@pytest.mark.parametrize("net", ["residual", "branch", "trained_plain"])
def test_outputs_stay(by: str, net: str, request: pytest.FixtureRequest) -> None:
    start, task = request.getfixturevalue(net)
    result = EqualizeRanges(by)(start, task)  # type: ignore[arg-type]
    result.candidate.check()
    assert_same(result.candidate.predict(PICTURES), start.predict(PICTURES))
    own, new = start.network.parameters(), result.candidate.network.parameters()
    for layer in start.network.layers():
        moved = not np.array_equal(own[layer.weight], new[layer.weight])
        assert moved is (layer.name in result.touched), layer.name


@settings(max_examples=5)
@given(seed=st.integers(0, 999))
def test_whatever_was_apart_meets_again(residual: Trained, seed: int) -> None:
    start, task = residual
    one = EqualizeRanges()(start, task).candidate.network.parameters()
    two = EqualizeRanges()(spoilt(start, seed), task).candidate.network.parameters()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=0.03, atol=1e-6, err_msg=name)


def test_one_scale_for_all_channels_serves_again(residual: Trained) -> None:
    start, task = residual
    bad = spoilt(start, 1)
    quantize = QuantizeInt8(per_channel=False)
    truth = start.predict(PICTURES)

    def error(candidate: Candidate) -> float:
        return float(np.square(candidate.predict(PICTURES) - truth).mean() / truth.var())

    plain = error(quantize(bad, task).candidate)
    mended = error(quantize(EqualizeRanges()(bad, task).candidate, task).candidate)
    assert mended < plain / 10
    assert mended < 0.01


@pytest.mark.parametrize("by", ["activations", "loss"])
def test_activations_of_one_grid_are_finer_for_narrow_channels(by: str, residual: Trained) -> None:
    start, task = residual
    bad = spoilt(start, 2)
    truth = start.predict(PICTURES)
    errors = [
        float(np.square(QuantizeInt8()(net, task).candidate.predict(PICTURES) - truth).mean())
        for net in (bad, EqualizeRanges(by)(bad, task).candidate)  # type: ignore[arg-type]
    ]
    assert errors[1] < errors[0] / 2


def test_relu6_is_skipped_with_the_reason(branch: Trained) -> None:
    result = EqualizeRanges()(*branch)
    reasons = {skip.layer: skip.reason for skip in result.skipped}
    assert reasons["stem.0"].startswith("a clip as ReLU6's follows, which does not scale")
    assert "fc" in result.touched  # reads what a ReLU gives


def test_masks_and_codes_survive_where_they_can(branch: Trained, residual: Trained) -> None:
    start, task = residual
    pruned = PruneMagnitude(0.5)(start, task).candidate
    result = EqualizeRanges()(pruned, task)
    result.candidate.check()
    assert_same(result.candidate.predict(PICTURES), pruned.predict(PICTURES))
    for name, encoding in result.candidate.encodings.items():
        assert isinstance(encoding, Masked)
        assert (result.candidate.network.parameters()[name][encoding.zeros()] == 0).all()
    start, task = branch
    shared = ShareWeights(4, include=("depthwise", "last.0"))(start, task).candidate
    result = EqualizeRanges()(shared, task)
    result.candidate.check()
    assert_same(result.candidate.predict(PICTURES), shared.predict(PICTURES))
    scaled = result.candidate.encodings["units.0.branch.3.weight"]
    before = shared.encodings["units.0.branch.3.weight"]
    assert isinstance(scaled, Encoded)
    assert isinstance(before, Encoded)
    assert scaled.axis == 0
    np.testing.assert_array_equal(scaled.indices, before.indices)
    everything = ShareWeights(4)(start, task).candidate
    skipped = {s.layer: s.reason for s in EqualizeRanges()(everything, task).skipped}
    assert "have no scale for it" in skipped["units.2.branch.5"]


def test_a_shared_weight_refuses_factors_by_input(residual: Trained) -> None:
    shared = ShareWeights(4)(*residual).candidate
    groups = channel_groups(shared.network.graph)
    scale = np.ones(len(groups.ceilings))
    scale[groups.reads["conv2.weight"][0]] = 2.0
    with pytest.raises(EncodingError, match=r"conv2.weight is encoded: it has no scale"):
        scaled_channels(shared, groups, scale)


def test_order_and_what_is_needed(trained_residual: Trained, residual: Trained) -> None:
    with pytest.raises(StageOrderError, match="put FoldBatchNorm before EqualizeRanges"):
        EqualizeRanges()(*trained_residual)
    start, task = residual
    int8 = QuantizeInt8()(start, task).candidate
    late = EqualizeRanges()(int8, task)
    assert late.candidate is int8
    assert {s.reason for s in late.skipped} == {
        "its activations have grids already; put EqualizeRanges before QuantizeInt8"
    }
    poor = dataclasses.replace(task, calibration=None)
    assert EqualizeRanges()(start, poor).touched  # weights alone need no pictures
    for by in ("activations", "loss"):
        with pytest.raises(TaskError, match=r"EqualizeRanges needs task.calibration"):
            EqualizeRanges(by)(start, poor)  # type: ignore[arg-type]


def test_pictures_of_nan_are_refused(residual: Trained) -> None:
    start, task = residual
    bad = dataclasses.replace(task, calibration=lambda: [np.full_like(PICTURES[:4], np.nan)])
    with pytest.raises(TaskError, match=r"EqualizeRanges: calibration .*gives NaN") as caught:
        EqualizeRanges("loss")(start, bad)
    assert "\n" not in str(caught.value)


class Tied(nn.Module):
    """Two layers of one weight, and a weight that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 1)
        self.c = nn.Conv2d(4, 4, 1)
        self.c.weight = self.b.weight
        self.d = nn.Conv2d(4, 4, 1)
        self.e = nn.Conv2d(4, 4, 1)
        self.loose = nn.Parameter(torch.randn(4, 4))
        self.fc = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))
        x = F.relu(self.e(F.relu(self.d(x)))).mean((2, 3))
        return self.fc(F.relu(F.linear(x, self.loose)))


def tied() -> nn.Module:
    return Tied()


def test_weights_that_serve_elsewhere_or_are_no_layers_are_left_alone(residual: Trained) -> None:
    spec = dataclasses.replace(
        residual.candidate.spec, builder="tests.compress.stages.test_equalize_ranges:tied"
    )
    start = Candidate.untrained(spec, 0)
    result = EqualizeRanges()(start, residual.task)
    result.candidate.check()
    assert result.touched == ("d", "e")
    assert_same(result.candidate.predict(PICTURES), start.predict(PICTURES))
    reasons = {skip.layer: skip.reason for skip in result.skipped}
    assert reasons["a"].startswith("a layer beside it is used more than once")
    assert "'loose' makes or reads it, which is no layer's weight" in reasons["fc"]
