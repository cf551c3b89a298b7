"""Groups of channels: any factors of groups that are not fixed leave the outputs as they were."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.candidate import Candidate
from compress.channel_groups import ChannelGroups, channel_groups
from compress.channel_scaling import scaled_channels
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec
from compress.stages.fold_batchnorm import FoldBatchNorm
from tests.digits import digits_task
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec

SPECS: dict[str, Callable[[], ModelSpec]] = {
    "residual": digits_residual_spec,
    "branch": digits_branch_spec,
    "plain": digits_plain_spec,
    "mobilenet": lambda: mobilenet_v2_spec(small=True, width=0.35),
    "shufflenet": lambda: shufflenet_v2_spec(small=True, width=0.5),
    "squeezenet": lambda: squeezenet1_1_spec(small=True),
}


def folded(spec: ModelSpec) -> Candidate:
    """Untrained, with biases that are not zero, and batch norms folded."""
    start = Candidate.untrained(spec, 0)
    rng = np.random.default_rng(0)
    random = {
        name: (value + rng.normal(size=value.shape) * 0.1).astype(np.float32)
        for name, value in start.network.parameters().items()
        if value.ndim == 1
    }
    return FoldBatchNorm()(start.with_values(random, {}), digits_task()).candidate


NETS = {name: folded(spec()) for name, spec in SPECS.items()}
GROUPS = {name: channel_groups(net.network.graph) for name, net in NETS.items()}


def free(groups: ChannelGroups) -> np.ndarray:
    fixed = np.isin(np.arange(len(groups.ceilings)), list(groups.fixed))
    return ~fixed & np.isinf(groups.ceilings)


@pytest.mark.parametrize("net", NETS)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_free_groups_may_have_any_factor(net: str, seed: int) -> None:
    candidate, groups = NETS[net], GROUPS[net]
    rng = np.random.default_rng(seed)
    scale = np.where(free(groups), np.exp2(rng.integers(-6, 7, len(groups.ceilings))), 1.0)
    pictures = rng.normal(size=(2, *candidate.network.input_shape[1:])).astype(np.float32)
    other = scaled_channels(candidate, groups, scale)
    wanted, found = candidate.predict(pictures), other.predict(pictures)
    # Powers of two leave every product exact: only sums of several groups' orders differ.
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    own, new = candidate.network.parameters(), other.network.parameters()
    changed = [name for name in own if not np.array_equal(own[name], new[name])]
    assert len(changed) > 1


@pytest.mark.parametrize(
    ("net", "layers"),
    [
        ("residual", {"stem.0", "conv1", "conv2", "widen.0"}),
        ("plain", {"fc1"}),
        ("branch", {"stem.0"}),
    ],
)
def test_what_can_be_scaled(net: str, layers: set[str]) -> None:
    """Through adds, pools and shuffles; a ReLU6 has a ceiling, the answers are fixed."""
    groups = GROUPS[net]
    able = {n.removesuffix(".weight") for n, g in groups.writes.items() if g[0] not in groups.fixed}
    assert layers <= able
    assert "fc" not in able
    assert "fc2" not in able


def test_groups_of_a_residual_net() -> None:
    groups = GROUPS["residual"]
    # stem + conv2 are one sum, which conv1 and widen read
    np.testing.assert_array_equal(groups.writes["stem.0.weight"], groups.writes["conv2.weight"])
    np.testing.assert_array_equal(groups.reads["conv1.weight"], groups.reads["widen.0.weight"])
    assert not set(groups.writes["conv1.weight"]) & set(groups.writes["conv2.weight"])
    assert set(groups.reads["stem.0.weight"]) <= groups.fixed.keys()
    assert np.isinf(groups.ceilings).all()


def test_a_relu6_is_a_ceiling_and_pixels_share_their_channels_group() -> None:
    groups = GROUPS["branch"]
    assert set(groups.ceilings[groups.writes["stem.0.weight"]]) == {6.0}
    spec = dataclasses.replace(
        digits_plain_spec(), builder="tests.compress.test_channel_groups:flat"
    )
    flat_groups = channel_groups(Candidate.untrained(spec, 0).network.graph)
    wrote, read = flat_groups.writes["conv.weight"], flat_groups.reads["fc.weight"]
    np.testing.assert_array_equal(read, np.repeat(wrote, 64))


class Flat(nn.Module):
    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.fc = nn.Linear(192, 10)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.between(self.conv(x)).flatten(1))


def flat() -> nn.Module:
    return Flat(F.relu)


def sigmoid() -> nn.Module:
    return Flat(torch.sigmoid)


def plus_one() -> nn.Module:
    return Flat(lambda x: x + 1)


def shuffled_pixels() -> nn.Module:
    return Flat(lambda x: x.transpose(1, 2))


def across() -> nn.Module:
    """A mean over channels and one over pixels, which only one of keeps channels apart."""
    return Flat(lambda x: x * x.mean((1, 2, 3), keepdim=True))


def padded_with_ones() -> nn.Module:
    return Flat(lambda x: F.pad(x[:, :, 1:-1, 1:-1], (1, 1, 1, 1), value=1.0))


def clipped_below() -> nn.Module:
    return Flat(lambda x: F.hardtanh(x, -1.0, 1.0))


def leaky() -> nn.Module:
    return Flat(F.leaky_relu)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        ("sigmoid", "sigmoid lies between"),
        ("plus_one", "add lies between"),
        ("across", "m.* lies between"),
        ("padded_with_ones", "pad lies between"),
        ("clipped_below", "hardtanh lies between"),
        ("leaky", None),
        ("shuffled_pixels", None),
    ],
)
def test_what_does_not_scale_is_fixed_for_a_reason(net: str, reason: str | None) -> None:
    spec = dataclasses.replace(
        digits_plain_spec(), builder=f"tests.compress.test_channel_groups:{net}"
    )
    candidate = Candidate.untrained(spec, 0)
    groups = channel_groups(candidate.network.graph)
    reasons = {groups.fixed.get(int(n), "") for n in groups.writes["conv.weight"]}
    if reason is not None:
        (found,) = reasons
        assert re.match(reason, found), found
        return
    assert reasons == {""}
    scale = np.where(free(groups), 4.0, 1.0)
    pictures = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    other = scaled_channels(candidate, groups, scale)
    np.testing.assert_allclose(other.predict(pictures), candidate.predict(pictures), rtol=1e-4)


def test_a_layer_that_is_used_twice_is_fixed() -> None:
    spec = dataclasses.replace(
        digits_plain_spec(), builder="tests.compress.stages.test_correct_bias:twice"
    )
    groups = channel_groups(Candidate.untrained(spec, 0).network.graph)
    numbers = {*groups.writes["conv.weight"], *groups.reads["conv.weight"]}
    assert numbers <= groups.fixed.keys()


def features_padded() -> nn.Module:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(64, 8), nn.Linear(10, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(F.pad(F.relu(self.one(x.flatten(1))), (1, 1)))

    return Padded()


@pytest.mark.parametrize(
    "builder", [f"{__name__}:features_padded", "tests.nets:digits_channels_last"]
)
def test_channels_that_are_not_the_whole_second_axis_are_fixed(builder: str) -> None:
    spec = dataclasses.replace(digits_plain_spec(), builder=builder)
    candidate = Candidate.untrained(spec, 0)
    groups = channel_groups(candidate.network.graph)
    touched = {int(n) for name in ("one.weight", "two.weight") for n in groups.writes[name]}
    assert touched <= groups.fixed.keys()
    assert not any(np.isfinite(groups.ceilings))
