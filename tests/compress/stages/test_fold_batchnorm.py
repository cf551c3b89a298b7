"""FoldBatchNorm: the same outputs, masks and clusters, without batch norm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import ActivationQuant, Candidate
from compress.edit import FoldedBatchNorm
from compress.encoding import Encoded
from compress.errors import StageOrderError
from compress.graph import TensorId
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.resnet_cifar import resnet20_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.network import TorchNetwork
from compress.spec import ModelSpec, TensorSpec
from compress.stages.fold_batchnorm import FoldBatchNorm, unfolded
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.share_weights import ShareWeights
from compress.task import Task
from tests.digits import Trained
from tests.nets import digits_residual_spec

TASK = Task(evaluate=lambda _predict: {}, fingerprint="none")


def lively(spec: ModelSpec, seed: int = 0) -> Candidate:
    """A random net whose batch norms have seen data: gammas of both signs, real statistics."""
    torch.manual_seed(seed)
    model = spec.build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight.data[::7] *= -1
            nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(16, *spec.inputs[0].shape[1:]))
    return Candidate.load(spec, model.eval())


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def doubled(candidate: Candidate, images: np.ndarray) -> np.ndarray:
    """What the net's float32 values give in float64: how sums are ordered does not show."""
    with torch.no_grad():
        return candidate.network.module().double()(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize(
    "spec",
    [mobilenet_v2_spec(small=True), shufflenet_v2_spec(small=True), resnet20_spec()],
    ids=lambda spec: spec.name,
)
def test_real_nets_give_the_same(spec: ModelSpec) -> None:
    candidate = lively(spec)
    norms = [m for m in candidate.network.module().modules() if isinstance(m, nn.BatchNorm2d)]
    result = FoldBatchNorm()(candidate, TASK)
    result.candidate.check()
    assert len(norms) == len(result.touched) >= 19
    assert result.skipped == ()
    assert unfolded(result.candidate) == ()
    assert not any("running" in name for name in result.candidate.network.state())
    images = np.random.default_rng(1).normal(size=(4, *spec.inputs[0].shape[1:]))
    assert relative(doubled(result.candidate, images), doubled(candidate, images)) < 1e-5


@pytest.mark.parametrize("net", ["trained_residual", "trained_branch"])
def test_trained_nets_give_the_same(net: str, request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue(net)
    folded = FoldBatchNorm()(candidate, task).candidate
    for batch in task.calibration():
        assert relative(folded.predict(batch), candidate.predict(batch)) < 1e-5


def test_it_is_exact_in_float64(trained_net: Trained) -> None:
    candidate, task = trained_net
    state = candidate.network.state()
    folded = FoldBatchNorm()(candidate, task).candidate
    own = folded.network.parameters()
    wide = {name: array.astype(np.float64) for name, array in state.items()}
    factor = wide["bn1.weight"] / np.sqrt(wide["bn1.running_var"] + 1e-5)
    weight = wide["conv1.weight"] * factor[:, None, None, None]
    bias = wide["bn1.bias"] - wide["bn1.running_mean"] * factor
    assert np.array_equal(own["conv1.weight"], weight.astype(np.float32))
    assert np.allclose(own["conv1.bias"], bias, rtol=1e-7, atol=1e-9)
    assert FoldedBatchNorm("conv1", "bn1") in folded.edits


def test_masks_and_clusters_survive() -> None:
    candidate = lively(digits_residual_spec())
    pruned = PruneMagnitude(0.6)(candidate, TASK).candidate
    shared = ShareWeights(4, include=("stem.0", "conv1"))(pruned, TASK).candidate
    folded = FoldBatchNorm()(shared, TASK).candidate
    folded.check()
    batch = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    assert relative(folded.predict(batch), shared.predict(batch)) < 1e-5
    for name, old in shared.encodings.items():
        new = folded.encodings[name]
        assert np.array_equal(new.zeros(), old.zeros())
        assert np.array_equal(folded.network.parameters()[name] == 0, old.zeros())
        if isinstance(old, Encoded):
            assert isinstance(new, Encoded)
            assert np.array_equal(new.indices, old.indices)
            assert np.array_equal(new.codebook, old.codebook)
            assert new.axis == 0
            assert (new.scale < 0).any()  # a negative gamma


def test_a_channel_with_gamma_0_keeps_only_its_bias() -> None:
    candidate = lively(digits_residual_spec())
    gamma = candidate.network.parameters()["bn1.weight"].copy()
    gamma[3] = 0
    dead = replace(candidate, network=candidate.network.with_parameters({"bn1.weight": gamma}))
    shared = ShareWeights(4)(dead, TASK).candidate
    folded = FoldBatchNorm()(shared, TASK).candidate
    folded.check()
    batch = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    assert relative(folded.predict(batch), shared.predict(batch)) < 1e-5
    encoding = folded.encodings["conv1.weight"]
    assert encoding.zeros()[3].all()
    assert not folded.network.parameters()["conv1.weight"][3].any()


class Odd(nn.Module):
    """One of each batch norm that cannot fold, and one after a linear layer that can."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, 4, 3)
        self.read_twice = nn.BatchNorm2d(4)
        self.after_relu = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 1)
        self.used_twice = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 36, 10)
        self.after_fc = nn.BatchNorm1d(10, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(self.first(x))
        y = self.after_relu(F.relu(y + self.read_twice(y)))
        y = self.used_twice(self.again(self.used_twice(self.again(y))))
        return self.after_fc(self.fc(y.flatten(1)))


def test_what_cannot_fold_says_why() -> None:
    spec = ModelSpec(f"{__name__}:Odd", inputs=(TensorSpec("input", (1, 1, 8, 8)),))
    torch.manual_seed(0)
    model = Odd()
    with torch.no_grad():
        model.train()(torch.randn(8, 1, 8, 8) + 1)
    candidate = Candidate(spec, TorchNetwork(model, (1, 1, 8, 8)))
    result = FoldBatchNorm()(candidate, TASK)
    reasons = {s.layer: s.reason for s in result.skipped}
    assert result.touched == ("fc",)
    assert reasons["first"] == "it follows /input#0, not a convolution or linear layer"
    assert reasons["read_twice"] == "conv/conv2d#0 is also read elsewhere"
    assert reasons["after_relu"] == "it follows /relu#0, not a convolution or linear layer"
    assert "more than once" in reasons["used_twice"]
    batch = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    assert relative(result.candidate.predict(batch), candidate.predict(batch)) < 1e-5


def test_without_batch_norm_it_is_the_identity(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = FoldBatchNorm()(candidate, task)
    assert result.candidate is candidate
    assert result.touched == ()


def test_it_refuses_grids_over_batch_norm(trained_net: Trained) -> None:
    candidate, task = trained_net
    grids = {TensorId("", "input"): ActivationQuant(1.0, 0)}
    with pytest.raises(StageOrderError, match="put FoldBatchNorm before QuantizeInt8"):
        FoldBatchNorm()(replace(candidate, activations=grids), task)
