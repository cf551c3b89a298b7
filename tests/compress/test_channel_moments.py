"""What noise costs, beside the divergence that such noise really gives."""

from __future__ import annotations

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.channel_moments import NetMoments, net_moments
from compress.divergence import divergences
from compress.stages.fold_batchnorm import FoldBatchNorm
from tests.digits import Trained, digits

Measured = tuple[Candidate, NetMoments]
PICTURES = digits()["validation"].images[:128]


@pytest.fixture
def moments(trained_residual: Trained) -> Measured:
    candidate = FoldBatchNorm()(trained_residual.candidate, trained_residual.task).candidate
    return candidate, net_moments(candidate.network.graph, [PICTURES[:80], PICTURES[80:]], seed=0)


def test_ranges_are_those_of_the_activations(moments: Measured) -> None:
    candidate, found = moments
    for tensor, value in candidate.network.activations(PICTURES).items():
        flat = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)
        np.testing.assert_allclose(found.tensors[tensor].low, flat.min(axis=1), rtol=1e-5)
        np.testing.assert_allclose(found.tensors[tensor].high, flat.max(axis=1), rtol=1e-5)
        assert (found.tensors[tensor].curvature >= 0).all()


def test_noise_in_weights_costs_what_the_curvature_says(
    moments: Measured,
) -> None:
    candidate, found = moments
    reference = candidate.network.predict(PICTURES)
    weights = candidate.network.parameters()
    for name in ("conv1.weight", "widen.0.weight"):
        deviation = 0.01 * float(np.abs(weights[name]).max())
        expected = 0.5 * deviation**2 * float(found.weights[name].sum())
        generator = np.random.default_rng(0)
        seen = []
        for _ in range(40):
            noise = generator.normal(0, deviation, weights[name].shape).astype(np.float32)
            noisy = candidate.network.with_parameters({name: weights[name] + noise})
            seen.append(divergences(reference, noisy.predict(PICTURES)).mean())
        assert float(np.mean(seen)) == pytest.approx(expected, rel=0.35)


def test_the_same_seed_gives_the_same(moments: Measured) -> None:
    candidate, found = moments
    again = net_moments(candidate.network.graph, [PICTURES[:80], PICTURES[80:]], seed=0)
    for name, curvature in found.weights.items():
        np.testing.assert_array_equal(curvature, again.weights[name])
