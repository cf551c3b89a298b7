"""PruneMagnitude: exact counts, monotone, ties by position; sparsity 0 is the identity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compress.candidate import Candidate
from compress.encoding import Encoded, Masked
from compress.errors import RangeError
from compress.stages.fine_tune import FineTune
from compress.stages.prune_magnitude import PruneMagnitude, lamp_scores, smallest
from compress.stages.share_weights import ShareWeights
from tests.digits import Trained

floats = st.floats(-4, 4, width=32)


def zeros(candidate: Candidate, name: str) -> np.ndarray:
    return candidate.network.parameters()[name] == 0


@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=floats),
    st.integers(0, 99).map(lambda n: n / 100),
)
def test_exactly_the_floor_of_the_smallest_go(weight: np.ndarray, sparsity: float) -> None:
    taken = smallest(weight, sparsity)
    assert taken[weight == 0].all()
    asked = round(sparsity * 100) * weight.size // 100
    assert taken.sum() == max(asked, (weight == 0).sum())
    if taken.any() and not taken.all():
        assert np.abs(weight[taken]).max() <= np.abs(weight[~taken]).min()


def test_ties_go_by_position() -> None:
    weight = np.array([[1, -1, 0.5], [1, -1, 1]], np.float32)
    assert smallest(weight, 0.5).tolist() == [[True, True, True], [False, False, False]]


def test_decimals_count_as_written() -> None:
    assert math.floor(0.29 * 100) == 28  # what the binary product gives
    assert smallest(np.arange(1, 101, dtype=np.float32), 0.29).sum() == 29


def test_every_layer_gets_its_sparsity_and_nothing_else_changes(trained_net: Trained) -> None:
    candidate, task = trained_net
    result = PruneMagnitude(0.7)(candidate, task)
    result.candidate.check()
    before, after = candidate.network.state(), result.candidate.network.state()
    weights = {layer.weight for layer in candidate.network.layers()}
    assert result.touched == tuple(layer.name for layer in candidate.network.layers())
    for name, old in before.items():
        if name in weights:
            gone = after[name] == 0
            assert gone.sum() == math.floor(0.7 * old.size)
            assert np.array_equal(after[name][~gone], old[~gone])
        else:
            assert np.array_equal(after[name], old)


def test_sparsity_0_is_the_identity(trained_net: Trained) -> None:
    candidate, task = trained_net
    result = PruneMagnitude(0.0)(candidate, task)
    assert result.candidate.digest() == candidate.digest()
    assert result.touched == ()
    assert {s.reason for s in result.skipped} == {"sparsity 0"}


def test_pruning_further_keeps_what_is_zero(trained_net: Trained) -> None:
    candidate, task = trained_net
    once = PruneMagnitude(0.5)(candidate, task).candidate
    tuned = FineTune(1, 0.05)(once, task).candidate
    more = PruneMagnitude(0.8)(tuned, task).candidate
    less = PruneMagnitude(0.2)(tuned, task).candidate
    for layer in candidate.network.layers():
        first = zeros(once, layer.weight)
        assert zeros(more, layer.weight)[first].all()
        assert zeros(more, layer.weight).sum() == math.floor(0.8 * first.size)
        assert np.array_equal(zeros(less, layer.weight), first)


def test_pairs_by_pattern_and_role_first_match_counts(trained_branch: Trained) -> None:
    candidate, task = trained_branch
    stage = PruneMagnitude((("depthwise", 0.25), ("units.0.*", 0.5), ("classifier", 0.9)))
    result = stage(candidate, task)
    by_name = {layer.name: layer for layer in candidate.network.layers()}
    wanted = {"units.0.branch.0": 0.5, "units.0.branch.3": 0.25, "fc": 0.9}
    for name, sparsity in wanted.items():
        weight = result.candidate.network.parameters()[by_name[name].weight]
        assert (weight == 0).sum() == math.floor(sparsity * weight.size)
    left = {s.layer: s.reason for s in result.skipped}
    assert left["stem.0"] == "no sparsity is given for it"
    assert (candidate.network.parameters()["stem.0.weight"] != 0).all()


def test_global_scope_ranks_all_layers_together(trained_net: Trained) -> None:
    candidate, task = trained_net
    result = PruneMagnitude(0.6, exclude=("fc",), scope="global")(candidate, task)
    own = result.candidate.network.parameters()
    chosen = [la.weight for la in candidate.network.layers() if la.name != "fc"]
    gone = sum(int((own[name] == 0).sum()) for name in chosen)
    assert gone == math.floor(0.6 * sum(own[name].size for name in chosen))
    least_kept = min(np.abs(own[name][own[name] != 0]).min() for name in chosen)
    before = candidate.network.parameters()
    assert max(np.abs(before[n][own[n] == 0]).max() for n in chosen) <= least_kept
    fractions = {round(float((own[name] == 0).mean()), 3) for name in chosen}
    assert len(fractions) == len(chosen)  # not each layer the same
    assert "fc.weight" not in result.candidate.encodings


def test_lamp_is_the_papers_formula() -> None:
    weight = np.array([[3, -1], [0, 2]], np.float32)
    expected = [[9 / 9, 1 / 14], [0, 4 / 13]]
    np.testing.assert_allclose(lamp_scores(weight), expected, rtol=1e-12)
    # Equal squares: the first in memory has the most beside it, so it goes first.
    np.testing.assert_allclose(lamp_scores(np.ones(3, np.float32)), [1 / 3, 1 / 2, 1])


def test_lamp_ranks_layers_whatever_their_scale(trained_net: Trained) -> None:
    candidate, task = trained_net
    once = PruneMagnitude(0.9, scope="lamp")(candidate, task).candidate
    own = once.network.parameters()
    sizes = [own[la.weight].size for la in candidate.network.layers()]
    gone = {la.weight: own[la.weight] == 0 for la in candidate.network.layers()}
    assert sum(int(g.sum()) for g in gone.values()) == math.floor(0.9 * sum(sizes))
    assert all(not g.all() for g in gone.values())
    scaled = candidate.with_values(
        {"conv1.weight": candidate.network.parameters()["conv1.weight"] * np.float32(0.125)}, {}
    )
    again = PruneMagnitude(0.9, scope="lamp")(scaled, task).candidate.network.parameters()
    for name, zero in gone.items():
        assert np.array_equal(again[name] == 0, zero)


def test_pruning_shared_weights_keeps_the_codebook(trained_net: Trained) -> None:
    candidate, task = trained_net
    shared = ShareWeights(4)(candidate, task).candidate
    pruned = PruneMagnitude(0.5)(shared, task).candidate
    pruned.check()
    for layer in candidate.network.layers():
        old, new = shared.encodings[layer.weight], pruned.encodings[layer.weight]
        assert isinstance(old, Encoded)
        assert isinstance(new, Encoded)
        assert np.array_equal(old.codebook, new.codebook)
        assert new.indices.dtype == old.indices.dtype
        assert (new.indices == 0).sum() == math.floor(0.5 * old.indices.size)
        kept = new.indices != 0
        assert np.array_equal(new.indices[kept], old.indices[kept])


def test_masks_say_what_is_kept(trained_net: Trained) -> None:
    candidate, task = trained_net
    pruned = PruneMagnitude(0.5, include=("conv1",))(candidate, task).candidate
    assert list(pruned.encodings) == ["conv1.weight"]
    mask = pruned.encodings["conv1.weight"]
    assert isinstance(mask, Masked)
    assert np.array_equal(mask.mask, ~zeros(pruned, "conv1.weight"))


@pytest.mark.parametrize(
    "settings",
    [
        {"sparsity": 1.0},
        {"sparsity": -0.1},
        {"sparsity": math.nan},
        {"sparsity": "half"},
        {"sparsity": ()},
        {"sparsity": (("conv1",),)},
        {"sparsity": (("conv1", 1.5),)},
        {"sparsity": 0.5, "scope": "net"},
        {"sparsity": (("conv1", 0.5),), "scope": "global"},
        {"sparsity": (("conv1", 0.5),), "scope": "lamp"},
        {"sparsity": 0.5, "include": "conv1"},
    ],
)
def test_bad_settings_are_one_line(settings: dict[str, object]) -> None:
    with pytest.raises(RangeError) as caught:
        PruneMagnitude(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "PruneMagnitude" in str(caught.value)


def test_a_misspelt_layer_is_refused(trained_net: Trained) -> None:
    candidate, task = trained_net
    for stage in (
        PruneMagnitude(0.5, include=("convolution1",)),
        PruneMagnitude((("convolution1", 0.5),)),
    ):
        with pytest.raises(RangeError, match=r"convolution1.*the layers are: stem\.0"):
            stage(candidate, task)
