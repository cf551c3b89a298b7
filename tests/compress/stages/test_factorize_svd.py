"""FactorizeSVD: two thin layers for one; full rank is the identity; biases stay exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compress.edit import Factorized
from compress.errors import RangeError, StageOrderError
from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.prune_magnitude import PruneMagnitude
from tests.digits import Trained


def images(task: object) -> np.ndarray:
    return np.concatenate(list(task.calibration()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("net", ["trained_plain", "trained_branch", "trained_residual"])
def test_full_rank_is_the_identity(net: str, request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue(net)
    result = FactorizeSVD(energy=1.0, even_if_larger=True)(candidate, task)
    result.candidate.check()
    assert result.touched
    wanted, found = candidate.predict(images(task)), result.candidate.predict(images(task))
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_fixed_rank_of_a_linear_layer(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(rank=8, include=("fc1",))(candidate, task)
    result.candidate.check()
    before, after = candidate.network.parameters(), result.candidate.network.parameters()
    assert result.candidate.edits == (Factorized("fc1", 8),)
    assert after["fc1.0.weight"].shape == (8, 64)
    assert after["fc1.1.weight"].shape == (40, 8)
    assert np.array_equal(after["fc1.1.bias"], before["fc1.bias"])
    product = after["fc1.1.weight"].astype(np.float64) @ after["fc1.0.weight"]
    left, values, right = np.linalg.svd(before["fc1.weight"].astype(np.float64))
    best = (left[:, :8] * values[:8]) @ right[:8]
    assert np.allclose(product, best, atol=1e-5 * values[0])
    saved = before["fc1.weight"].size - after["fc1.0.weight"].size - after["fc1.1.weight"].size
    assert saved == 64 * 40 - 8 * (64 + 40) > 0


def test_energy_keeps_the_accuracy(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(energy=0.95)(candidate, task)
    assert result.touched == ("fc1",)
    own = result.candidate.network.parameters()
    factors = own["fc1.1.weight"].astype(np.float64) @ own["fc1.0.weight"]
    weight = candidate.network.parameters()["fc1.weight"]
    assert (factors**2).sum() >= 0.95 * (weight.astype(np.float64) ** 2).sum()
    score = task.evaluate(result.candidate.predict)["top1"]
    assert score >= task.evaluate(candidate.predict)["top1"] - 0.02


def test_pointwise_convolutions_and_reasons(trained_branch: Trained) -> None:
    candidate, task = trained_branch
    result = FactorizeSVD(rank=8)(candidate, task)
    result.candidate.check()
    reasons = {s.layer: s.reason for s in result.skipped}
    assert "last.0" in result.touched
    assert "units.0.branch.0" in result.touched
    assert reasons["stem.0"] == "neither linear nor an ungrouped 1 x 1 convolution"
    assert reasons["units.0.branch.3"] == "neither linear nor an ungrouped 1 x 1 convolution"
    own = result.candidate.network.parameters()
    assert own["last.0.0.weight"].shape == (8, 48, 1, 1)
    assert own["last.0.1.weight"].shape == (96, 8, 1, 1)
    assert {*result.touched, *reasons} == {layer.name for layer in candidate.network.layers()}


def test_a_rank_that_saves_nothing_is_skipped(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(rank=9)(candidate, task)
    assert [(s.layer, s.reason) for s in result.skipped] == [
        ("fc2", "rank 9 saves nothing at 10 x 40: at most 7 does")
    ]
    nothing = FactorizeSVD(rank=40)(candidate, task)
    assert nothing.candidate is candidate


def test_it_refuses_encoded_nets(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    pruned = PruneMagnitude(0.5)(candidate, task).candidate
    with pytest.raises(StageOrderError, match="put FactorizeSVD before"):
        FactorizeSVD(rank=4)(pruned, task)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rank": 4, "energy": 0.9},
        {"rank": 0},
        {"rank": 2.5},
        {"energy": 0.0},
        {"energy": 1.1},
        {"energy": math.nan},
        {"rank": 4, "include": "fc1"},
    ],
)
def test_bad_settings_are_one_line(settings: dict[str, object]) -> None:
    with pytest.raises(RangeError) as caught:
        FactorizeSVD(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "FactorizeSVD" in str(caught.value)
