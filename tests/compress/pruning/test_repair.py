"""Repair on nets that have learnt the digits: what may change, and that layers err less by it."""

from __future__ import annotations

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.network import LayerInfo
from compress.pruning.evidence import losses_of
from compress.pruning.losses import DivergenceLosses, FixedLosses
from compress.pruning.removal import remove
from compress.pruning.repair import input_masks, refitted, repaired
from compress.pruning.structure import coupled_sets
from compress.reconstruction import Sample, Sampling, reconstruct
from tests.digits import calibration, trained
from tests.nets import digits_residual_spec

FIRST_HALF = Sampling(512, 0)


def halves(candidate: Candidate) -> dict[str, np.ndarray]:
    sets, _ = coupled_sets(candidate)
    return {one.name: np.arange(0, one.channels, 2) for one in sets if one.multiple == 1}


def test_removed_inputs_are_zero_and_taking_them_away_changes_nothing() -> None:
    candidate, _ = trained(digits_residual_spec)
    sets, _ = coupled_sets(candidate)
    kept = halves(candidate)
    masks = input_masks(candidate, sets, kept)
    done = repaired(candidate, masks, list(calibration()), FIRST_HALF)
    own = done.network.parameters()
    for name, stays in masks.items():
        assert not own[name][:, ~stays[0]].any()
    pictures = next(iter(calibration()))
    smaller = remove(done, kept)
    np.testing.assert_allclose(smaller.predict(pictures), done.predict(pictures), atol=1e-4)


def test_without_removed_inputs_it_is_the_same_candidate() -> None:
    candidate, _ = trained(digits_residual_spec)
    assert repaired(candidate, {}, [], FIRST_HALF) is candidate


def test_no_layer_errs_more_than_before() -> None:
    """At the samples that it was fitted to, with any inputs removed."""
    candidate, _ = trained(digits_residual_spec)
    layers = [la for la in candidate.network.layers() if la.groups == 1 and la.shape[1] > 1]
    rng = np.random.default_rng(0)
    errors: list[tuple[float, float]] = []

    def solve(layer: LayerInfo, sample: Sample) -> tuple[np.ndarray, None]:
        stays = rng.random((1, layer.shape[1])) < 0.7
        own = candidate.network.parameters()[layer.weight]
        fitted, shift = refitted(layer, own, stays, sample, True)
        zeroed = own * stays.reshape(1, -1, *[1] * (own.ndim - 2))
        wanted, seen = sample.outputs[0].numpy(), sample.inputs[0].numpy()
        before, after = (
            float(np.square(wanted - seen @ w.reshape(len(w), -1).T - s).sum())
            for w, s in ((zeroed, 0), (fitted, shift))
        )
        errors.append((before, after))
        return fitted, None

    reconstruct(candidate.network, layers, calibration(), FIRST_HALF, solve)
    assert len(errors) == len(layers)
    assert all(after <= before * (1 + 1e-5) for before, after in errors)
    assert sum(after for _, after in errors) < 0.5 * sum(before for before, _ in errors)


@pytest.mark.parametrize("criterion", ["divergence", "taylor", "l1"])
def test_losses_of_a_criterion(criterion: str) -> None:
    candidate, _ = trained(digits_residual_spec)
    sets, _ = coupled_sets(candidate)
    found = losses_of(criterion, candidate, sets, calibration, 0)  # type: ignore[arg-type]
    assert isinstance(found, DivergenceLosses if criterion == "divergence" else FixedLosses)
    for one in sets:
        each = found.each(one.name)
        assert each.shape == (one.channels,)
        assert (each >= 0).all()
        assert each.any()
        again = losses_of(criterion, candidate, sets, calibration, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.each(sets[0].name), found.each(sets[0].name))
