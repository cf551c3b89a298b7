"""FactorizeSVD: thin layers for one; full rank is the identity; biases stay exactly."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.candidate import Candidate
from compress.checkpoint import load_candidate, save_candidate
from compress.edit import Factorized
from compress.errors import RangeError, StageOrderError, TaskError
from compress.factoring.forms import Form, product
from compress.measure import count
from compress.split_layers import SPLITS
from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.stages.weighing import seen_layers
from tests.candidates import fresh, strided_spec
from tests.digits import Trained

WEIGHINGS = ("answers", "inputs", "weights")
DIGITS = ("trained_plain", "trained_branch", "trained_residual")


def images(task: object) -> np.ndarray:
    return np.concatenate(list(task.calibration()))  # type: ignore[attr-defined]


def macs(candidate: Candidate) -> int:
    return count(candidate.spec, candidate.network.module()).macs


def weights(candidate: Candidate) -> int:
    return sum(p.size for p in candidate.network.parameters().values())


def thin_weight(candidate: Candidate, edit: Factorized) -> np.ndarray:
    """The weight that the thin layers of `edit` stand for."""
    own, parts = candidate.network.parameters(), 3 if edit.split == "tucker" else 2
    factors = [own[f"{edit.layer}.{n}.weight"] for n in range(parts)]
    return product(Form(edit.split, edit.rank, edit.rank_in), factors)


@pytest.mark.parametrize("weigh", ["answers", "weights"])
@pytest.mark.parametrize(
    ("net", "split"),
    [("trained_plain", "auto"), ("trained_branch", "auto")]
    + [("trained_residual", split) for split in SPLITS],
)
def test_full_rank_is_the_identity(
    net: str, split: str, weigh: Any, request: pytest.FixtureRequest
) -> None:
    candidate, task = request.getfixturevalue(net)
    stage = FactorizeSVD(rank=10_000, even_if_larger=True, split=split, weigh=weigh)
    result = stage(candidate, task)
    result.candidate.check()
    grouped = {layer.name for layer in candidate.network.layers() if layer.groups > 1}
    assert {skip.layer for skip in result.skipped} == grouped
    wanted, found = candidate.predict(images(task)), result.candidate.predict(images(task))
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    before, after = candidate.network.parameters(), result.candidate.network.parameters()
    for edit in result.candidate.edits[len(candidate.edits) :]:
        assert isinstance(edit, Factorized)
        last = f"{edit.layer}.{2 if edit.split == 'tucker' else 1}.bias"
        assert (last in after) is (f"{edit.layer}.bias" in before)
        if last in after:
            np.testing.assert_array_equal(after[last], before[f"{edit.layer}.bias"])


@pytest.mark.parametrize("net", DIGITS)
def test_all_the_energy_is_the_identity(net: str, request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue(net)
    result = FactorizeSVD(energy=1.0, even_if_larger=True)(candidate, task)
    assert result.touched
    wanted, found = candidate.predict(images(task)), result.candidate.predict(images(task))
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_fixed_rank_of_a_linear_layer(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(rank=8, include=("fc1",), weigh="weights")(candidate, task)
    result.candidate.check()
    before, after = candidate.network.parameters(), result.candidate.network.parameters()
    assert result.candidate.edits == (Factorized("fc1", 8),)
    assert after["fc1.0.weight"].shape == (8, 64)
    assert after["fc1.1.weight"].shape == (40, 8)
    assert np.array_equal(after["fc1.1.bias"], before["fc1.bias"])
    found = after["fc1.1.weight"].astype(np.float64) @ after["fc1.0.weight"]
    left, values, right = np.linalg.svd(before["fc1.weight"].astype(np.float64))
    best = (left[:, :8] * values[:8]) @ right[:8]
    assert np.allclose(found, best, atol=1e-5 * values[0])
    saved = before["fc1.weight"].size - after["fc1.0.weight"].size - after["fc1.1.weight"].size
    assert saved == 64 * 40 - 8 * (64 + 40) > 0


@pytest.mark.parametrize("weigh", WEIGHINGS)
@pytest.mark.parametrize(
    ("net", "split"),
    [("trained_plain", "auto"), ("trained_branch", "spatial")]
    + [("trained_residual", split) for split in SPLITS],
)
def test_by_its_own_measure_it_errs_least(
    net: str, split: str, weigh: Any, request: pytest.FixtureRequest
) -> None:
    """On every layer, by every measure: no other way of weighing does better at the same rank."""
    candidate, task = request.getfixturevalue(net)
    done = {
        way: FactorizeSVD(rank=5, even_if_larger=True, split=split, weigh=way)(candidate, task)
        for way in (weigh, "weights")
    }
    layers = {layer.name: layer for layer in candidate.network.layers()}
    seen = seen_layers(candidate, list(layers.values()), task, weigh, "the test")
    edits = {way: one.candidate.edits[len(candidate.edits) :] for way, one in done.items()}
    for own, plain in zip(edits[weigh], edits["weights"], strict=True):
        layer = layers[own.layer]
        weight = candidate.network.parameters()[layer.weight].astype(np.float64)
        measure = seen.measure(layer)
        own_cost, plain_cost = (
            measure.cost((weight - thin_weight(done[way].candidate, edit)).reshape(len(weight), -1))
            for way, edit in ((weigh, own), ("weights", plain))
        )
        total = measure.cost(weight.reshape(len(weight), -1))
        assert own_cost <= plain_cost * (1 + 1e-6) + 1e-10 * total, own.layer


def test_the_bias_keeps_the_mean_of_each_output(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(rank=4, include=("fc1",), weigh="inputs")(candidate, task)
    own, thin = candidate.network.parameters(), result.candidate.network.parameters()
    seen = images(task).reshape(-1, 64).astype(np.float64)
    wanted = seen @ own["fc1.weight"].T + own["fc1.bias"]
    inner = seen @ thin["fc1.0.weight"].T
    found = inner @ thin["fc1.1.weight"].T + thin["fc1.1.bias"]
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=1e-5)
    assert np.abs(found - wanted).max() > 0.01
    assert not np.array_equal(thin["fc1.1.bias"], own["fc1.bias"])


def test_a_layer_without_bias_gets_one_before_a_batch_norm(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    result = FactorizeSVD(rank=4, split="spatial", include=("conv1",))(candidate, task)
    edit = result.candidate.edits[-1]
    assert edit == Factorized("conv1", 4, "spatial", 0, True)
    assert "conv1.1.bias" in result.candidate.network.parameters()
    folded = FoldBatchNorm()(result.candidate, task)
    assert "conv1.1" in folded.touched
    np.testing.assert_allclose(
        folded.candidate.predict(images(task)), result.candidate.predict(images(task)), atol=1e-4
    )
    plain = FactorizeSVD(rank=4, weigh="weights", include=("conv1",))(candidate, task).candidate
    assert "conv1.1.bias" not in plain.network.parameters()


def test_energy_keeps_the_accuracy(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(energy=0.95, weigh="weights")(candidate, task)
    assert result.touched == ("fc1",)
    found = thin_weight(result.candidate, result.candidate.edits[0])  # type: ignore[arg-type]
    weight = candidate.network.parameters()["fc1.weight"]
    assert (found**2).sum() >= 0.95 * (weight.astype(np.float64) ** 2).sum()
    score = task.evaluate(result.candidate.predict)["top1"]
    assert score >= task.evaluate(candidate.predict)["top1"] - 0.02


def test_reasons(trained_branch: Trained) -> None:
    candidate, task = trained_branch
    result = FactorizeSVD(rank=8)(candidate, task)
    result.candidate.check()
    reasons = {s.layer: s.reason for s in result.skipped}
    assert "last.0" in result.touched
    assert "units.0.branch.0" in result.touched
    assert reasons["stem.0"] == "rank 8 saves nothing at 48 x 1 x 3 x 3 by channel: at most 7 does"
    assert reasons["units.0.branch.3"] == "a depthwise convolution"
    own = result.candidate.network.parameters()
    assert own["last.0.0.weight"].shape == (8, 48, 1, 1)
    assert own["last.0.1.weight"].shape == (96, 8, 1, 1)
    assert {*result.touched, *reasons} == {layer.name for layer in candidate.network.layers()}
    grouped = FactorizeSVD(macs=0.99)(fresh(strided_spec), task_of(strided_spec))
    assert grouped.skipped[0].reason == "a grouped convolution"


def task_of(spec: Any) -> Any:
    """No calibration: the weights alone are weighed."""
    from compress.task import Task

    return Task(evaluate=lambda _: {}, fingerprint=str(spec))


def test_a_rank_that_saves_nothing_is_skipped(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FactorizeSVD(rank=9)(candidate, task)
    assert [(s.layer, s.reason) for s in result.skipped] == [
        ("fc2", "rank 9 saves nothing at 10 x 40 by channel: at most 7 does")
    ]
    nothing = FactorizeSVD(rank=40)(candidate, task)
    assert nothing.candidate is candidate


@pytest.mark.parametrize("weigh", ["answers", "weights"])
@pytest.mark.parametrize("fraction", [0.9, 0.5])
@pytest.mark.parametrize("budget", ["macs", "parameters", "bytes"])
def test_a_budget_is_met_and_used(
    budget: str, fraction: float, weigh: Any, trained_residual: Trained
) -> None:
    candidate, task = trained_residual
    result = FactorizeSVD(**{budget: fraction}, weigh=weigh)(candidate, task)  # type: ignore[arg-type]
    result.candidate.check()

    def cost(one: Candidate) -> int:
        if budget == "macs":
            return macs(one)
        if budget == "parameters":
            return weights(one)
        return sum(v.nbytes for v in one.network.state().values() if v.dtype.kind == "f")

    found = cost(result.candidate) / cost(candidate)
    # Biases that are added weigh next to nothing, but they weigh.
    slack = 0.03 if budget != "macs" else 0.0
    assert fraction - 0.06 < found <= fraction + slack
    if budget == "macs":
        assert found <= fraction


def test_less_budget_more_error(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    pictures = images(task)
    wanted = candidate.predict(pictures)
    errors = [
        np.abs(FactorizeSVD(macs=m)(candidate, task).candidate.predict(pictures) - wanted).mean()
        for m in (0.9, 0.6, 0.3)
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 2


def test_a_budget_that_cannot_be_met_names_the_nearest(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    with pytest.raises(RangeError, match=r"macs=0.01\): .* allow 0\.\d+ and more") as caught:
        FactorizeSVD(macs=0.01)(candidate, task)
    assert "\n" not in str(caught.value)
    nearest = float(str(caught.value).split(" allow ")[1].split()[0])
    result = FactorizeSVD(macs=nearest)(candidate, task)
    assert macs(result.candidate) <= nearest * macs(candidate)
    with pytest.raises(RangeError, match="and more"):
        FactorizeSVD(macs=nearest - 0.002)(candidate, task)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.6, 0.95), st.integers(1, 4), st.sampled_from([*SPLITS, "auto"]))
def test_ranks_are_multiples(fraction: float, step: int, split: str) -> None:
    from tests.digits import trained
    from tests.nets import digits_residual_spec

    candidate, task = trained(digits_residual_spec)
    stage = FactorizeSVD(macs=fraction, round_to=step, split=split, weigh="inputs")
    result = stage(candidate, task)
    assert macs(result.candidate) <= fraction * macs(candidate)
    for edit in result.candidate.edits:
        assert isinstance(edit, Factorized)
        assert edit.rank % step == edit.rank_in % step == 0
        assert split in ("auto", edit.split) or edit.layer == "fc"
    rounded = FactorizeSVD(rank=step + 1, round_to=step, weigh="weights")(candidate, task)
    assert {e.rank for e in rounded.candidate.edits} <= {-(-(step + 1) // step) * step}


def test_a_split_for_each_layer(trained_residual: Trained) -> None:
    candidate, task = trained_residual
    stage = FactorizeSVD(
        rank=4, split=(("conv1", "tucker"), ("conv2", "spatial"), ("fc", "tucker"))
    )
    result = stage(candidate, task)
    assert [(e.layer, e.split) for e in result.candidate.edits] == [
        ("conv1", "tucker"),
        ("conv2", "spatial"),
        ("fc", "channel"),
    ]
    reasons = {skip.layer: skip.reason for skip in result.skipped}
    assert reasons["widen.0"] == "no pattern of split fits it"
    with pytest.raises(RangeError, match="nope"):
        FactorizeSVD(rank=4, split=(("nope*", "tucker"),))(candidate, task)
    with pytest.raises(RangeError, match="nope"):
        FactorizeSVD(rank=4, include=("nope*",))(candidate, task)


def test_twice_and_what_comes_after(trained_residual: Trained, tmp_path: Path) -> None:
    candidate, task = trained_residual
    once = FactorizeSVD(macs=0.7)(candidate, task).candidate
    twice = FactorizeSVD(macs=0.8)(once, task).candidate
    twice.check()
    assert macs(twice) <= 0.8 * macs(once)
    assert any("." in e.layer and e.layer[-1].isdigit() for e in twice.edits[len(once.edits) :])
    save_candidate(twice, tmp_path / "twice.safetensors")
    loaded = load_candidate(tmp_path / "twice.safetensors", twice.spec)
    assert loaded.digest() == twice.digest()
    folded = FoldBatchNorm()(twice, task)
    assert not folded.skipped
    done = folded.candidate
    for stage in (PruneMagnitude(0.3), ShareWeights(5), QuantizeInt8()):
        done = stage(done, task).candidate
        done.check()
    score = task.evaluate(done.predict)["top1"]
    assert score >= task.evaluate(twice.predict)["top1"] - 0.1


def test_it_refuses_encoded_nets(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    pruned = PruneMagnitude(0.5)(candidate, task).candidate
    with pytest.raises(StageOrderError, match="put FactorizeSVD before"):
        FactorizeSVD(rank=4)(pruned, task)


def test_without_calibration_the_weights_are_weighed(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    poor = dataclasses.replace(task, calibration=None)
    plain = FactorizeSVD(rank=5)(candidate, poor).candidate
    assert (
        plain.digest() == FactorizeSVD(rank=5, weigh="weights")(candidate, task).candidate.digest()
    )
    with pytest.raises(TaskError, match=r"FactorizeSVD needs task.calibration"):
        FactorizeSVD(rank=5, weigh="inputs")(candidate, poor)


@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"rank": 4, "energy": 0.9},
        {"macs": 0.5, "bytes": 0.5},
        {"rank": 0},
        {"rank": 2.5},
        {"energy": 0.0},
        {"energy": 1.1},
        {"energy": math.nan},
        {"macs": 1.0},
        {"macs": 0.0},
        {"parameters": -0.5},
        {"bytes": 40_000},
        {"macs": "half"},
        {"macs": 0.5, "even_if_larger": True},
        {"rank": 4, "split": "diagonal"},
        {"rank": 4, "split": ()},
        {"rank": 4, "split": (("fc", "diagonal"),)},
        {"rank": 4, "weigh": "guess"},
        {"rank": 4, "round_to": 0},
        {"rank": 4, "round_to": 1.5},
        {"rank": 4, "include": "fc1"},
    ],
)
def test_bad_settings_are_one_line(given_settings: dict[str, Any]) -> None:
    with pytest.raises(RangeError) as caught:
        FactorizeSVD(**given_settings)
    assert "\n" not in str(caught.value)
    assert "FactorizeSVD" in str(caught.value)


def test_more_inputs_than_can_be_weighed(
    trained_plain: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, task = trained_plain
    monkeypatch.setattr("compress.stages.rank_plan._MOST_INPUTS", 50)
    result = FactorizeSVD(rank=5)(candidate, task)
    reasons = {skip.layer: skip.reason for skip in result.skipped}
    assert reasons["fc1"] == "its 64 inputs are too many to weigh; weigh='weights' takes it"
    assert result.touched == ("fc2",)
    assert FactorizeSVD(rank=5, weigh="weights")(candidate, task).touched == ("fc1", "fc2")
