"""CorrectBias: means come back, nothing else moves; what cannot be mended is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import Candidate
from compress.divergence import divergences
from compress.encoding import Masked
from compress.errors import StageOrderError, TaskError
from compress.stages.correct_bias import CorrectBias
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.inner import check_inner
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.stages.train_int8 import TrainInt8
from compress.task import Batch, Task
from tests.digits import Trained, digits

METHODS = ("empirical", "analytic")
PICTURES = digits()["validation"].images


@pytest.fixture(scope="module")
def folded(trained_branch: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_branch).candidate, trained_branch.task)


def far(candidate: Candidate, reference: Candidate) -> float:
    return float(divergences(reference.predict(PICTURES), candidate.predict(PICTURES)).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "inner",
    [
        ShareWeights(2),
        (ShareWeights(3), QuantizeInt8()),
        QuantizeInt8(per_channel=False),
    ],
    ids=lambda inner: type(inner).__name__,
)
def test_answers_come_nearer(method: str, inner: object, folded: Trained) -> None:
    start, task = folded
    plain = start
    for stage in check_inner("test", "inner", inner):
        plain = stage(plain, task).candidate
    result = CorrectBias(inner, method)(start, task)  # type: ignore[arg-type]
    result.candidate.check()
    assert far(result.candidate, start) < far(plain, start)
    own, mended = plain.network.parameters(), result.candidate.network.parameters()
    for name in own:
        assert np.array_equal(own[name], mended[name]) is not name.endswith("bias"), name
    assert result.candidate.activations == plain.activations


@pytest.mark.parametrize("method", METHODS)
def test_what_lost_nothing_stays_bit_for_bit(method: str, folded: Trained) -> None:
    start, task = folded
    same = PruneMagnitude(0.0)
    result = CorrectBias(same, method)(start, task)  # type: ignore[arg-type]
    assert result.candidate.digest() == same(start, task).candidate.digest()


def test_layers_without_a_bias_of_their_own_are_skipped_with_the_reason(
    trained_residual: Trained,
) -> None:
    candidate, task = trained_residual  # batch norms at work: only the classifier has a bias
    result = CorrectBias(PruneMagnitude(0.5, include=("conv1", "fc")))(candidate, task)
    assert result.touched == ("conv1", "fc")
    reasons = {skip.layer: skip.reason for skip in result.skipped}
    assert reasons["conv2"] == (
        "left out by include and exclude; "
        "it has no bias; FoldBatchNorm makes one where a batch norm follows"
    )


def test_an_encoded_bias_is_left_alone(folded: Trained) -> None:
    start, task = folded
    masked = start.with_values({}, {"fc.bias": Masked(np.arange(10) > 4)})
    result = CorrectBias(ShareWeights(2))(masked, task)
    found, old = (c.network.parameters()["fc.bias"] for c in (result.candidate, masked))
    np.testing.assert_array_equal(found, old)


class Twice(nn.Module):
    """One convolution that is used twice, and one whose bias is the other's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.twin = nn.Conv2d(1, 1, 3, padding=1)
        self.twin.bias = self.conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twin(self.conv(self.conv(x).relu()).relu()).flatten(1)


def twice() -> nn.Module:
    torch.manual_seed(1)
    return Twice()


def test_a_layer_used_twice_gets_the_mean_of_both_uses(folded: Trained) -> None:
    spec = dataclasses.replace(
        folded.candidate.spec, builder="tests.compress.stages.test_correct_bias:twice"
    )
    start = Candidate.untrained(spec, 0)
    result = CorrectBias(ShareWeights(2))(start, folded.task)
    result.candidate.check()
    assert set(result.touched) == {"conv", "twin"}  # both weights are shared
    moved = (
        result.candidate.network.parameters()["conv.bias"] - start.network.parameters()["conv.bias"]
    )
    assert np.isfinite(moved).all()
    assert moved.any()


@pytest.mark.parametrize("method", METHODS)
def test_norms_that_the_inner_stage_folds_are_folded_in_the_reference(
    method: str, trained_branch: Trained, folded: Trained
) -> None:
    start, task = trained_branch
    lazy = dataclasses.replace(task, finetune=lambda _, tuning: tuning.after_epoch(0))
    stage = CorrectBias(TrainInt8(1, 0.1, QuantizeInt8("mse")), method)  # type: ignore[arg-type]
    done = stage(start, lazy).candidate
    plain = CorrectBias(QuantizeInt8("mse"), method)(*folded).candidate  # type: ignore[arg-type]
    own, wanted = done.network.parameters(), plain.network.parameters()
    for name in (n for n in wanted if n.endswith("bias")):
        np.testing.assert_allclose(own[name], wanted[name], atol=0.02, err_msg=name)


def test_order_and_data_are_checked(trained_branch: Trained, folded: Trained) -> None:
    with pytest.raises(StageOrderError, match=r"^CorrectBias: QuantizeInt8 needs .* put FoldB"):
        CorrectBias()(*trained_branch)
    start, task = folded

    def once() -> Iterator[Batch]:
        yield np.zeros((2, 3, 8, 8), np.float32)

    def broken() -> Iterator[Batch]:
        yield np.full((2, 1, 8, 8), np.nan, np.float32)

    def with_pictures(calibration: object) -> Task:
        return dataclasses.replace(task, calibration=calibration)  # type: ignore[arg-type]

    stage = CorrectBias(ShareWeights(2))
    with pytest.raises(TaskError, match=r"CorrectBias: calibration batch 1 .*needs float32"):
        stage(start, with_pictures(once))
    with pytest.raises(TaskError, match=r"CorrectBias: .* NaN or infinity in layer 'stem.0'"):
        stage(start, with_pictures(broken))
