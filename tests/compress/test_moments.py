"""moments: windows as the layer sees them, moments as they are, a divergence that they foretell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.columns import columns
from compress.compensation import as_groups, output_error
from compress.divergence import Divergence, divergences
from compress.errors import RangeError
from compress.moments import layer_moments
from tests.candidates import fresh
from tests.digits import calibration, digits, trained
from tests.nets import digits_plain_spec

LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 7, 5)),
    (lambda: nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(0, 2), dilation=2), (2, 4, 9, 8)),
    (lambda: nn.Conv2d(4, 8, 3, groups=2), (2, 4, 6, 6)),
    (lambda: nn.Conv2d(4, 4, 3, padding="same", groups=4), (1, 4, 6, 5)),
    (lambda: nn.Conv2d(4, 4, 2, padding="valid"), (1, 4, 6, 5)),
    (lambda: nn.Conv2d(4, 5, 3, padding=(2, 1), padding_mode="reflect"), (2, 4, 6, 6)),
    (lambda: nn.Linear(4, 3), (5, 4)),
    (lambda: nn.Linear(4, 3), (5, 2, 4)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_the_columns_times_the_weight_are_the_outputs(make: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, given = make(), torch.randn(shape)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    seen = columns(layer, given)
    weight = layer.weight.reshape(groups, -1, seen.shape[2])
    ours = torch.einsum("gmn,bgnp->bgmp", weight, seen)
    if isinstance(layer, nn.Linear):
        ours = ours.transpose(2, 3).reshape(*shape[:-1], -1) + layer.bias
    else:
        ours = ours.reshape(layer(given).shape) + layer.bias[:, None, None]
    torch.testing.assert_close(ours, layer(given), atol=1e-5, rtol=1e-5)


def test_the_moments_of_inputs_are_those_of_the_pictures() -> None:
    net = fresh(digits_plain_spec).network
    pictures = digits()["train"].images[:40]
    found = layer_moments(net, net.layers(), [pictures[:25], pictures[25:]], seed=0)
    flat = pictures.reshape(40, 64).astype(np.float64)
    first = found["fc1"]
    np.testing.assert_allclose(first.inputs[0], flat.T @ flat / 40, atol=1e-5)
    np.testing.assert_allclose(first.means[0], flat.mean(axis=0), atol=1e-6)
    assert first.positions == 1
    assert first.outputs.shape == (1, 40, 40)


def test_the_moments_of_the_answers_are_the_covariance_of_what_the_net_believes() -> None:
    net = fresh(digits_plain_spec).network
    pictures = digits()["train"].images
    last = layer_moments(net, net.layers(), [pictures], seed=0)["fc2"]
    logits = net.predict(pictures).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = np.diag(chances.mean(axis=0)) - chances.T @ chances / len(chances)
    scaled = last.outputs[0] * np.trace(wanted) / np.trace(last.outputs[0])
    np.testing.assert_allclose(scaled, wanted, atol=0.02)


def test_they_foretell_the_divergence_of_small_errors() -> None:
    base = trained(digits_plain_spec).candidate
    pictures = np.concatenate(list(calibration()))
    moments = layer_moments(base.network, base.network.layers(), [pictures] * 8, seed=0)
    rng = np.random.default_rng(0)
    own = base.network.parameters()
    for name in ("fc1", "fc2"):
        seen = moments[name]
        told, found = 0.0, 0.0
        for _ in range(8):
            error = rng.normal(size=own[f"{name}.weight"].shape).astype(np.float32) * 0.003
            outputs = np.diagonal(seen.outputs, axis1=1, axis2=2)
            told += output_error(as_groups(error, 1), seen.inputs, outputs) / 2
            moved = {f"{name}.weight": own[f"{name}.weight"] + error}
            other = replace(base, network=base.network.with_parameters(moved))
            found += Divergence.of(base.predict, lambda: [pictures])(other.predict)
        assert 0.5 < told / found < 2


def test_the_same_seed_gives_the_same_and_leaves_torch_alone() -> None:
    net = fresh(digits_plain_spec).network
    before = torch.random.get_rng_state()
    one, two, other = (
        layer_moments(net, net.layers(), [digits()["train"].images[:20]], seed)["fc1"].outputs
        for seed in (3, 3, 4)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_divergences_are_those_of_probabilities() -> None:
    ours, theirs = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.5, 0.25]])
    found = divergences(ours.astype(np.float32) + 3, theirs.astype(np.float32) - 7)
    assert found == pytest.approx([0.5 * np.log(2) - 0.25 * np.log(2)], rel=1e-5)
    assert divergences(ours.astype(np.float32), ours.astype(np.float32)) == pytest.approx([0])
    assert np.isinf(divergences(ours.astype(np.float32), np.full((1, 3), np.nan, np.float32)))


def test_no_pictures_to_judge_by_are_refused() -> None:
    with pytest.raises(RangeError, match="at least four"):
        Divergence.of(lambda batch: batch, list)
