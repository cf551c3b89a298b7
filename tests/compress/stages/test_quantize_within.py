"""QuantizeWithin: the limit holds, nothing stays float in vain, and each layer kept says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.divergence import Divergence
from compress.errors import RangeError, StageOrderError, TaskError
from compress.stages.correct_bias import CorrectBias
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.int8_sensitivity import sampled
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.quantize_within import QuantizeWithin
from tests.digits import Trained

PICTURES = 12


@pytest.fixture(scope="module")
def spoilt(trained_residual: Trained) -> Trained:
    """Two layers whose int8 weights are coarse: a tap is huge where its input is next to nothing.

    The stem's input channel is one; so its second and third convolution get channels that carry
    little (divided by 500 before, multiplied by 500 behind), which one scale a tensor cannot hold.
    """
    start = FoldBatchNorm()(*trained_residual).candidate
    own = start.network.parameters()
    values = {n: np.array(v) for n, v in own.items() if n.startswith(("conv1.", "conv2.weight"))}
    values["conv1.weight"][4:] /= 500
    values["conv1.bias"][4:] /= 500
    values["conv2.weight"][:, 4:] *= 500
    return Trained(start.with_values(values, {}), trained_residual.task)


COARSE = QuantizeInt8(per_channel=False)


def kl(trained: Trained, int8: Candidate) -> float:
    judging = sampled(*trained, PICTURES).judging
    return Divergence.of(trained.candidate.predict, lambda: (judging,))(int8.predict)


@pytest.fixture(scope="module")
def within(spoilt: Trained) -> tuple[Candidate, dict[str, str]]:
    limit = kl(spoilt, COARSE(*spoilt).candidate) / 20
    stage = QuantizeWithin(divergence=limit, quantize=COARSE, pictures=PICTURES)
    result = stage(*spoilt)
    result.candidate.check()
    assert kl(spoilt, result.candidate) <= limit
    return result.candidate, {s.layer: s.reason for s in result.skipped}


def test_the_layer_that_hurts_is_kept_and_says_why(
    within: tuple[Candidate, dict[str, str]],
) -> None:
    candidate, reasons = within
    assert "conv1" in candidate.float_nodes
    assert set(reasons) == set(candidate.float_nodes)
    assert len(reasons) < len(candidate.network.layers())
    assert all(r.startswith("kept in float: quantized alone it loses ") for r in reasons.values())
    assert "conv1.weight" not in candidate.encodings
    assert "fc.weight" in candidate.encodings


def test_none_of_those_kept_can_be_quantized(
    spoilt: Trained, within: tuple[Candidate, dict[str, str]]
) -> None:
    kept = within[0].float_nodes
    limit = kl(spoilt, COARSE(*spoilt).candidate) / 20
    for name in kept:
        fewer = tuple(n for n in kept if n != name)
        assert kl(spoilt, replace(COARSE, keep_float=fewer)(*spoilt).candidate) > limit


def test_a_limit_that_holds_keeps_nothing(spoilt: Trained) -> None:
    stage = QuantizeWithin(drop=1.0, quantize=QuantizeInt8(), pictures=PICTURES)
    result = stage(*spoilt)
    plain = QuantizeInt8()(*spoilt)
    assert result.candidate.digest() == plain.candidate.digest()
    assert result.touched == plain.touched
    assert result.skipped == ()


def test_a_drop_of_the_users_own_metric(spoilt: Trained) -> None:
    candidate, task = spoilt
    images = sampled(candidate, task, PICTURES).judging
    wanted = candidate.predict(images)

    def nearness(predict: object) -> dict[str, float]:
        assert callable(predict)
        return {"nearness": -float(np.abs(predict(images) - wanted).mean())}

    own = replace(task, evaluate=nearness)
    coarse = nearness(COARSE(candidate, task).candidate.predict)["nearness"]
    stage = QuantizeWithin(drop=-coarse / 4, metric="nearness", quantize=COARSE, cost="weights")
    result = stage(candidate, own).candidate
    assert nearness(result.predict)["nearness"] >= coarse / 4
    assert 0 < len(result.float_nodes) < len(candidate.network.layers())
    with pytest.raises(TaskError, match="QuantizeWithin"):
        QuantizeWithin(drop=0.1, metric="other", quantize=COARSE)(candidate, own)


def test_what_the_stage_keeps_already_stays_and_wrappers_are_reached(spoilt: Trained) -> None:
    inner = replace(COARSE, keep_float=("fc",))
    limit = kl(spoilt, COARSE(*spoilt).candidate) / 10
    stage = QuantizeWithin(divergence=limit, quantize=CorrectBias(inner), pictures=PICTURES)
    result = stage(*spoilt)
    assert "fc" in result.candidate.float_nodes
    assert {"conv1", "conv2"} & set(result.candidate.float_nodes)
    assert kl(spoilt, result.candidate) <= limit
    assert "fc" not in {s.layer for s in result.skipped}  # CorrectBias moved its bias
    assert {s.layer for s in result.skipped} == set(result.candidate.float_nodes) - {"fc"}


def test_a_limit_that_nothing_keeps(spoilt: Trained) -> None:
    with pytest.raises(RangeError, match="does not hold even with every layer in float") as error:
        QuantizeWithin(divergence=0.0, quantize=COARSE, pictures=PICTURES)(*spoilt)
    assert "\n" not in str(error.value)


def test_a_quantized_net_has_nothing_to_keep(spoilt: Trained) -> None:
    scores = iter((1.0, 0.5))

    def falling(predict: object) -> dict[str, float]:
        assert callable(predict)
        return {"top1": next(scores)}

    task = replace(spoilt.task, evaluate=falling)
    with pytest.raises(StageOrderError, match="put QuantizeWithin in the place of QuantizeInt8"):
        QuantizeWithin(drop=0.0)(COARSE(*spoilt).candidate, task)
