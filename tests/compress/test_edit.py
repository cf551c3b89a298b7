"""Edits: structure as data, replayed exactly; wrong ones refused before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compress.edit import (
    Edit,
    Factorized,
    FoldedBatchNorm,
    edit_from_dict,
    edit_to_dict,
    rebuild,
)
from compress.errors import SpecError
from compress.split_layers import split_layer
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec

EDITS: list[Edit] = [
    FoldedBatchNorm("stem.0", "stem.1"),
    Factorized("fc", 3),
    Factorized("conv1", 40, "spatial"),
    Factorized("conv1.1", 5, "tucker", 7),
    Factorized("conv2", 4, bias=True),
]


@pytest.mark.parametrize("edit", EDITS)
def test_edits_survive_json(edit: Edit) -> None:
    assert edit_from_dict(edit_to_dict(edit)) == edit


def test_rebuild_replays_the_edits_in_order() -> None:
    plain = set(rebuild(digits_residual_spec(), ()).state_dict())
    net = rebuild(digits_residual_spec(), EDITS[:2])
    gone = {f"stem.1.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
    gone |= {"stem.1.num_batches_tracked", "fc.weight", "fc.bias"}
    new = {"stem.0.bias", "fc.0.weight", "fc.1.weight", "fc.1.bias"}
    assert set(net.state_dict()) == plain - gone | new
    assert not any(part.training for part in net.modules())
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_folding_gives_the_layer_a_zero_bias_of_its_own_type() -> None:
    net = rebuild(digits_residual_spec(), EDITS[:1])
    bias = net.get_submodule("stem.0").bias
    assert isinstance(bias, nn.Parameter)
    assert bias.shape == (16,)
    assert not bias.any()
    assert type(net.get_submodule("stem.1")) is nn.Identity


@pytest.mark.parametrize("bias", [True, False])
def test_a_factorized_layer_has_the_shapes_of_its_rank(bias: bool) -> None:
    linear = split_layer(nn.Linear(6, 4), "channel", (3, 0), bias)
    assert {k: tuple(v.shape) for k, v in linear.state_dict().items()} == {
        "0.weight": (3, 6),
        "1.weight": (4, 3),
        **({"1.bias": (4,)} if bias else {}),
    }
    conv = split_layer(nn.Conv2d(6, 4, 1, stride=2), "channel", (2, 0), bias)
    assert conv(torch.zeros(1, 6, 5, 5)).shape == (1, 4, 3, 3)
    assert conv.state_dict()["0.weight"].shape == (2, 6, 1, 1)
    assert ("1.bias" in conv.state_dict()) is bias


REFUSED = {
    "layer not there": FoldedBatchNorm("nope", "stem.1"),
    "norm not there": FoldedBatchNorm("stem.0", "nope"),
    "layer is no layer": FoldedBatchNorm("stem.2", "stem.1"),
    "norm is no norm": FoldedBatchNorm("stem.0", "conv2"),
    "the net itself as layer": FoldedBatchNorm("", "stem.1"),
    "the net itself as norm": FoldedBatchNorm("stem.0", ""),
    "a parameter as layer": FoldedBatchNorm("fc.weight", "stem.1"),
    "rank 0": Factorized("fc", 0),
    "rank above full": Factorized("fc", 11),
    "negative rank": Factorized("fc", -1),
    "above the outputs": Factorized("conv1", 17),
    "above what spatial takes": Factorized("conv1", 49, "spatial"),
    "spatial of a linear layer": Factorized("fc", 2, "spatial"),
    "tucker without inner inputs": Factorized("conv1", 2, "tucker"),
    "tucker with too many": Factorized("conv1", 2, "tucker", 17),
    "inner inputs of another split": Factorized("conv1", 2, "channel", 2),
    "unknown split": Factorized("conv1", 2, "sideways"),
    "a relu": Factorized("stem.2", 2),
    "the net itself": Factorized("", 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_edits_that_do_not_fit_are_refused_in_one_line(case: str) -> None:
    with pytest.raises(SpecError, match="edit") as error:
        rebuild(digits_residual_spec(), (REFUSED[case],))
    assert "\n" not in str(error.value)


def test_the_same_norm_cannot_be_folded_twice() -> None:
    with pytest.raises(SpecError, match="no batch norm"):
        rebuild(digits_residual_spec(), (EDITS[0], EDITS[0]))


def test_a_depthwise_convolution_is_not_factorized() -> None:
    with pytest.raises(SpecError, match="cannot take"):
        rebuild(digits_branch_spec(), (Factorized("units.0.branch.3", 1),))


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"kind": "Exec", "code": "import os"},
        {"kind": "Factorized", "layer": "fc"},
        {"kind": "Factorized", "layer": "fc", "rank": "3"},
        {"kind": "Factorized", "layer": "fc", "rank": 2.0},
        {"kind": "Factorized", "layer": "fc", "rank": True},
        {"kind": "Factorized", "layer": "fc", "rank": 2, "split": 1},
        {"kind": "Factorized", "layer": "fc", "rank": 2, "rank_in": None},
        {"kind": "Factorized", "layer": "fc", "rank": 2, "bias": 1},
        {"kind": "Factorized", "layer": "fc", "rank": 3, "extra": 1},
        {"kind": "FoldedBatchNorm", "layer": 1, "norm": "x"},
        {"kind": ["Factorized"], "layer": "fc", "rank": 3},
    ],
)
def test_damaged_edits_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="edit"):
        edit_from_dict(raw)


def test_rebuilding_twice_gives_separate_nets() -> None:
    edit = (Factorized("fc1", 4),)
    one, two = (
        rebuild(digits_plain_spec(), edit).get_submodule("fc2").get_parameter("bias")
        for _ in range(2)
    )
    with torch.no_grad():
        two.fill_(1)  # a rebuilt net's values are not drawn: they may be anything
        one.zero_()
    assert (two == 1).all()


def test_fields_at_their_default_are_not_told() -> None:
    """Files, digests and resume keys of nets factorized before there were splits stay."""
    assert edit_to_dict(Factorized("fc", 3)) == {"kind": "Factorized", "layer": "fc", "rank": 3}
    tucker = edit_to_dict(Factorized("conv1", 5, "tucker", 7))
    assert set(tucker) == {"kind", "layer", "rank", "split", "rank_in"}


def test_every_split_replays_on_what_another_made() -> None:
    net = rebuild(digits_residual_spec(), EDITS[2:])
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes["conv1.0.weight"] == (40, 16, 3, 1)
    assert shapes["conv1.1.0.weight"] == (7, 40, 1, 1)
    assert shapes["conv1.1.1.weight"] == (5, 7, 1, 3)
    assert shapes["conv1.1.2.weight"] == (16, 5, 1, 1)
    assert shapes["conv2.0.weight"] == (4, 16, 3, 3)
    assert shapes["conv2.1.bias"] == (16,)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
