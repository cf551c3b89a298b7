"""Edits that make layers narrower: shapes and attributes replayed, damaged ones refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.edit import edit_from_dict, edit_to_dict, rebuild
from compress.errors import SpecError
from compress.keep_channels import KeepChannels, SetWidth, keep
from tests.cut_nets import own_net
from tests.nets import digits_residual_spec

SPEC = digits_residual_spec()


@given(
    st.integers(1, 40).flatmap(
        lambda of: st.tuples(
            st.just(of),
            st.lists(st.integers(0, of - 1), min_size=1, unique=True),
            st.sampled_from([1, 2, 9]),
        )
    )
)
def test_the_text_of_indices_gives_them_back_in_their_order(drawn: Any) -> None:
    of, channels, each = drawn
    indices = (np.array(channels)[:, None] * each + np.arange(each)).ravel()
    text, width, run = keep(of * each, indices)
    edit = KeepChannels(width, text, ("x",), each=run)
    assert edit.indices.tolist() == indices.tolist()
    assert edit.of * edit.each == of * each
    assert edit_from_dict(edit_to_dict(edit)) == edit


def test_behind_a_flatten_a_mask_of_channels_is_enough() -> None:
    indices = np.concatenate([np.arange(49) + 49 * channel for channel in (0, 2, 3)])
    assert keep(4 * 49, indices) == ("xb", 4, 49)
    assert keep(4, np.array([3, 0])) == ("3,0", 4, 1)
    assert keep(9, np.arange(9)) == ("x1", 1, 9)


def test_layers_and_norms_get_the_new_widths() -> None:
    edits = (
        KeepChannels(16, "xf00f", ("conv1", "bn1"), ("conv2",)),
        KeepChannels(24, "1,0,5", ("widen.0", "widen.1"), ("fc",)),
    )
    net = rebuild(SPEC, edits)
    conv1, bn1, conv2 = (net.get_submodule(name) for name in ("conv1", "bn1", "conv2"))
    assert isinstance(conv1, nn.Conv2d)
    assert isinstance(conv2, nn.Conv2d)
    assert isinstance(bn1, nn.BatchNorm2d)
    assert (conv1.out_channels, bn1.num_features, conv2.in_channels) == (8, 8, 8)
    assert net.get_submodule("fc").in_features == 3
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes["conv1.weight"] == (8, 16, 3, 3)
    assert shapes["bn1.running_var"] == (8,)
    assert shapes["fc.weight"] == (10, 3)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_depthwise_convolution_loses_inputs_outputs_and_groups() -> None:
    net = rebuild(own_net("Fans").spec, (KeepChannels(12, "xfc0", ("fan",), each=2),))
    fan = net.get_submodule("fan")
    assert isinstance(fan, nn.Conv2d)
    assert (fan.in_channels, fan.out_channels, fan.groups) == (6, 12, 6)
    assert fan.weight.shape == (12, 1, 3, 3)


def test_other_tensors_are_named_with_their_axis() -> None:
    net = rebuild(own_net("Scaled").spec, (KeepChannels(12, "x800", tensors=("scale:0",)),))
    assert net.get_parameter("scale").shape == (1, 1, 1)


REFUSED: dict[str, Any] = {
    "no such layer": KeepChannels(16, "x1", ("nope",)),
    "other width": KeepChannels(8, "x1", ("conv1",)),
    "no layer": KeepChannels(16, "x1", ("stem.2",)),
    "inputs of a norm": KeepChannels(16, "x1", inputs=("bn1",)),
    "no channel": KeepChannels(16, "x0", ("conv1",)),
    "nothing": KeepChannels(16, "", ("conv1",)),
    "too many bits": KeepChannels(16, "x1ffff", ("conv1",)),
    "a mask without end": KeepChannels(16, "x" + "f" * 4_000_000, ("conv1",)),
    "a list without end": KeepChannels(16, ",".join(["1"] * 1_000_000), ("conv1",)),
    "twice": KeepChannels(16, "1,1", ("conv1",)),
    "too high": KeepChannels(16, "16", ("conv1",)),
    "negative": KeepChannels(16, "-1", ("conv1",)),
    "spaces": KeepChannels(16, "1, 2", ("conv1",)),
    "huge": KeepChannels(1 << 23, "x1", ("conv1",)),
    "huge runs": KeepChannels(16, "x1", ("conv1",), each=1 << 20),
    "zero": KeepChannels(0, "x1", ("conv1",)),
    "no such tensor": KeepChannels(16, "x1", tensors=("conv1.gain:0",)),
    "no such axis": KeepChannels(16, "x1", tensors=("conv1.weight:7",)),
    "endless axis": KeepChannels(16, "x1", tensors=("conv1.weight:" + "9" * 5000,)),
    "odd axis": KeepChannels(16, "x1", tensors=("conv1.weight:-1",)),
    "no such module": SetWidth("nope", "padding", 4, 2),
    "no such attribute": SetWidth("conv1", "nope", 4, 2),
    "no number": SetWidth("conv1", "training", 1, 0),
    "other value": SetWidth("conv1", "groups", 4, 2),
    "wider": SetWidth("conv1", "groups", 1, 2),
    "a layer's own": SetWidth("conv1", "out_channels", 16, 3),
    "no groups": SetWidth("conv1", "groups", 1, 0),
    "below zero": SetWidth("conv1", "groups", 1, -1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_edits_that_do_not_fit_are_refused_in_one_line(case: str) -> None:
    with pytest.raises(SpecError, match="edit") as error:
        rebuild(SPEC, (REFUSED[case],))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "KeepChannels", "of": 16, "kept": "x1", "outputs": "conv1"},
        {"kind": "KeepChannels", "of": 16, "kept": "x1", "outputs": [1]},
        {"kind": "KeepChannels", "of": "16", "kept": "x1"},
        {"kind": "KeepChannels", "of": 16, "kept": [1, 2]},
        {"kind": "KeepChannels", "of": True, "kept": "x1"},
        {"kind": "SetWidth", "module": "x", "attribute": "y", "of": 1},
    ],
)
def test_damaged_edits_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="edit"):
        edit_from_dict(raw)
