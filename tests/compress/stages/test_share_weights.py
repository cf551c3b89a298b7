"""ShareWeights: few values, zeros kept, code 0 is zero; enough clusters are the identity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import RangeError
from compress.kmeans import cluster
from compress.models.lenet import lenet5_spec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights, plain, shared
from compress.task import Task
from tests.candidates import fresh
from tests.digits import Trained

NO_DATA = Task(evaluate=lambda _predict: {"top1": 0.0}, fingerprint="none")
# Many repeated and many zero values, as in pruned layers.
weights = hnp.arrays(
    np.float32,
    st.integers(1, 80),
    elements=st.one_of(st.just(0.0), st.floats(-2, 2, width=32), st.sampled_from([-1.0, 0.5])),
)


def encoded(candidate: Candidate, name: str) -> Encoded:
    found = candidate.encodings[name]
    assert isinstance(found, Encoded)
    return found


@given(weights, st.integers(2, 5))
def test_the_codes_of_any_weight(weight: np.ndarray, bits: int) -> None:
    found = shared(plain(weight), bits, cluster)
    assert found.codebook.dtype == np.float32
    assert found.codebook.size <= 1 << bits
    assert found.codebook[0] == 0
    assert (np.diff(found.codebook[1:]) > 0).all()
    assert (found.codebook[1:] != 0).all()
    assert (found.indices[weight == 0] == 0).all()
    distinct = np.unique(weight[weight != 0])
    if distinct.size < 1 << bits:
        assert np.array_equal(found.decode(), weight + np.float32(0))
    else:
        # Of all codes the nearest, but that code 0 is not for weights that are not zero.
        gaps = np.abs(weight[:, None].astype(np.float64) - found.codebook[1:])
        moved = found.indices != 0
        chosen = np.abs(weight.astype(np.float64) - found.decode())
        assert np.allclose(chosen[moved], gaps[moved].min(axis=1), atol=1e-7)


def test_a_layer_of_zeros_has_code_0_alone() -> None:
    found = shared(plain(np.zeros((3, 2), np.float32)), 4, cluster)
    assert found.codebook.tolist() == [0.0]
    assert not found.decode().any()


def test_pruned_zeros_stay_at_code_0(trained_net: Trained) -> None:
    candidate, task = trained_net
    pruned = PruneMagnitude(0.7)(candidate, task).candidate
    result = ShareWeights(3)(pruned, task)
    result.candidate.check()
    before, after = pruned.network.parameters(), result.candidate.network.parameters()
    for layer in candidate.network.layers():
        code = encoded(result.candidate, layer.weight)
        assert np.array_equal(code.indices == 0, before[layer.weight] == 0)
        assert np.unique(after[layer.weight]).size <= 8
        assert code.codebook.size == 8
    assert set(result.candidate.encodings) == {la.weight for la in candidate.network.layers()}


def test_enough_clusters_are_the_identity(trained_net: Trained) -> None:
    candidate, task = trained_net
    result = ShareWeights(10, include=("stem.0", "fc"))(candidate, task)
    before, after = candidate.network.parameters(), result.candidate.network.parameters()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    images = next(iter(task.need_calibration("test")()))
    assert np.array_equal(candidate.predict(images), result.candidate.predict(images))


@pytest.mark.parametrize("method", ["optimal", "linear", "sklearn"])
def test_the_methods_on_real_weights(trained_net: Trained, method: str) -> None:
    candidate, task = trained_net
    result = ShareWeights(5, method=method)(candidate, task)  # type: ignore[arg-type]
    again = ShareWeights(5, method=method)(candidate, task)  # type: ignore[arg-type]
    assert result.candidate.digest() == again.candidate.digest()
    score = task.evaluate(result.candidate.predict)["top1"]
    assert score >= task.evaluate(candidate.predict)["top1"] - 0.02


def test_optimal_is_no_worse_than_the_others(trained_net: Trained) -> None:
    candidate, task = trained_net
    own = candidate.network.parameters()
    error: dict[str, float] = {}
    for method in ("optimal", "linear", "sklearn"):
        found = ShareWeights(4, method=method)(candidate, task).candidate  # type: ignore[arg-type]
        error[method] = sum(
            float(((encoded(found, name).decode() - own[name]) ** 2).sum())
            for name in found.encodings
        )
    assert error["optimal"] <= error["linear"] * (1 + 1e-6)
    assert error["optimal"] <= error["sklearn"] * (1 + 1e-6)
    assert error["sklearn"] < error["optimal"] * 1.2  # the same problem was solved


def test_bits_by_layer(trained_net: Trained) -> None:
    candidate, task = trained_net
    result = ShareWeights((("conv?", 3), ("classifier", 5)))(candidate, task)
    sizes = {n: encoded(result.candidate, n).codebook.size for n in result.candidate.encodings}
    assert sizes == {"conv1.weight": 8, "conv2.weight": 8, "fc.weight": 32}
    assert {s.layer for s in result.skipped} == {"stem.0", "widen.0"}


def test_the_papers_bits_by_role() -> None:
    candidate = fresh(lenet5_spec)
    pairs = (("conv", 8), ("*", 5))
    result = ShareWeights(pairs)(candidate, NO_DATA)
    bits = {n: e.bits for n, e in result.candidate.encodings.items() if isinstance(e, Encoded)}
    assert bits == {"conv1.weight": 8, "conv2.weight": 8, "fc1.weight": 5, "fc2.weight": 5}
    assert result.skipped == ()
    some = ShareWeights((("conv", 8), ("linear", 5)))(candidate, NO_DATA)
    assert [(s.layer, s.reason) for s in some.skipped] == [("fc2", "no bits are given for it")]


def test_integers_stay_integers_with_their_scale(trained_net: Trained) -> None:
    candidate, task = trained_net
    folded = FoldBatchNorm()(candidate, task).candidate
    int8 = QuantizeInt8()(folded, task).candidate
    result = ShareWeights(4)(int8, task)
    result.candidate.check()
    assert result.candidate.activations == int8.activations
    for layer in candidate.network.layers():
        old, new = encoded(int8, layer.weight), encoded(result.candidate, layer.weight)
        assert new.on_integers
        assert new.codebook.size <= 16
        assert np.array_equal(new.scale, old.scale)
        assert (np.diff(new.codebook[1:].astype(int)) > 0).all()
        assert (new.integers()[old.integers() == 0] == 0).all()
        assert np.abs(new.integers().astype(int) - old.integers()).max() < 40


def test_sharing_anew_keeps_the_channel_scale(trained_net: Trained) -> None:
    candidate, task = trained_net
    folded = FoldBatchNorm()(ShareWeights(6)(candidate, task).candidate, task).candidate
    result = ShareWeights(3)(folded, task).candidate
    result.check()
    old, new = encoded(folded, "conv1.weight"), encoded(result, "conv1.weight")
    assert old.axis == 0
    assert new.axis == 0
    assert np.array_equal(new.scale, old.scale)
    assert new.codebook.size <= 8
    # Clusters merge, they are never split.
    pairs = np.unique(np.stack([old.indices, new.indices]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == np.unique(old.indices).size


def test_sharing_twice_at_the_same_bits_is_the_identity(trained_net: Trained) -> None:
    candidate, task = trained_net
    once = ShareWeights(4)(candidate, task).candidate
    twice = ShareWeights(4)(once, task)
    assert twice.candidate.digest() == once.digest()
    assert twice.touched == ()
    assert twice.skipped[0].reason == "it shares 16 values already"


def test_the_seed_reaches_sklearn(trained_net: Trained) -> None:
    candidate, task = trained_net
    stage = ShareWeights(5, method="sklearn", include=("widen.0",))
    other = stage(candidate, replace(task, seed=1)).candidate
    assert stage(candidate, task).candidate.digest() != other.digest()


@pytest.mark.parametrize(
    "settings",
    [
        {"bits": 1},
        {"bits": 11},
        {"bits": 17, "method": "linear"},
        {"bits": 4.0},
        {"bits": True},
        {"bits": (("conv1", 0),)},
        {"bits": "4"},
        {"bits": 4, "method": "kmeans"},
        {"bits": 4, "exclude": ["fc"]},
    ],
)
def test_bad_settings_are_one_line(settings: dict[str, object]) -> None:
    with pytest.raises(RangeError) as caught:
        ShareWeights(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "ShareWeights" in str(caught.value)
