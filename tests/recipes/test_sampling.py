"""Unequal classes made equal: how often each picture comes, and what each class weighs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.spec import Preprocess
from recipes.toolbox.sampling import balanced_weights, epoch_size, sample
from recipes.toolbox.training import Trainer

# 7, 3 and 2 pictures of the classes 0, 1 and 4.
LABELS = np.array([0, 1, 0, 4, 0, 1, 0, 0, 1, 4, 0, 0])


def counts(labels: np.ndarray, chosen: np.ndarray) -> dict[int, int]:
    classes, found = np.unique(labels[chosen], return_counts=True)
    return dict(zip(classes.tolist(), found.tolist(), strict=True))


def test_over_sampling_repeats_the_rare() -> None:
    chosen = sample(LABELS, "over", np.random.default_rng(0))
    assert counts(LABELS, chosen) == {0: 7, 1: 7, 4: 7}
    times = np.bincount(chosen, minlength=len(LABELS))
    assert times[LABELS == 0].tolist() == [1] * 7
    assert sorted(times[LABELS == 1].tolist()) == [2, 2, 3]
    assert sorted(times[LABELS == 4].tolist()) == [3, 4]


def test_under_sampling_drops_from_the_frequent_others_each_epoch() -> None:
    kept: set[int] = set()
    for seed in range(30):
        chosen = sample(LABELS, "under", np.random.default_rng(seed))
        assert counts(LABELS, chosen) == {0: 2, 1: 2, 4: 2}
        assert len(set(chosen.tolist())) == 6
        kept |= set(chosen.tolist())
    assert kept == set(range(len(LABELS)))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 99))
def test_samples_are_as_long_as_told_and_seeded(labels: list[int], seed: int) -> None:
    given_ = np.array(labels)
    for sampling in ("all", "over", "under"):
        first, again = (sample(given_, sampling, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert len(first) == epoch_size(given_, sampling)
        assert set(labels) == set(given_[first].tolist())


def test_balanced_weights_weigh_every_class_alike() -> None:
    weights = balanced_weights(LABELS, 6)
    assert weights == pytest.approx((12 / (3 * 7), 12 / (3 * 3), 0, 0, 12 / (3 * 2), 0))
    assert np.array(weights)[LABELS].mean() == pytest.approx(1)


@pytest.mark.parametrize(("sampling", "each"), [("over", 7), ("under", 2)])
def test_the_trainer_takes_its_batches_from_the_sample(sampling: str, each: int) -> None:
    pixels = np.zeros((12, 2, 2), np.uint8)
    trainer = Trainer(pixels, LABELS, Preprocess(), batch_size=4, sampling=sampling)
    orders = [
        np.concatenate([p.chosen for p in trainer.planner.plans(np.random.default_rng(seed))])
        for seed in (0, 0, 1)
    ]
    assert counts(LABELS, orders[0]) == {0: each, 1: each, 4: each}
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert LABELS[orders[0]].tolist() != sorted(LABELS[orders[0]]), "not shuffled"
