"""Dense int4: 15 levels for each output channel, through stages, training and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.candidate import Candidate
from compress.constrained import constrained, is_full_grid
from compress.encoding import Encoded, full_grid_bits, int4_codebook, int8_codebook
from compress.int8_weights import dense_integers
from compress.simulate import simulate
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from tests.digits import Trained, digits

NONE = np.zeros(4, np.float32)


@pytest.fixture(scope="module")
def folded(trained_net: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_net).candidate, trained_net.task)


@pytest.fixture(scope="module")
def int4(folded: Trained) -> Candidate:
    return QuantizeInt8(weight_bits=4)(*folded).candidate


def encoded(candidate: Candidate, name: str) -> Encoded:
    found = candidate.encodings[name]
    assert isinstance(found, Encoded)
    return found


def test_the_codebook_is_twos_complement_with_zero_first() -> None:
    codebook = int4_codebook()
    assert codebook.dtype == np.int8
    assert codebook.tolist() == [*range(8), *range(-8, 0)]
    assert full_grid_bits(codebook) == 4
    assert full_grid_bits(int8_codebook()) == 8
    assert full_grid_bits(np.roll(int8_codebook(), -1)) is None
    assert full_grid_bits(codebook.astype(np.float32)) is None
    assert full_grid_bits(codebook[:15]) is None
    assert full_grid_bits(np.sort(codebook)) is None


def test_weights_lie_on_fifteen_levels_and_err_less_than_to_the_largest(
    folded: Trained, int4: Candidate
) -> None:
    own = folded.candidate.network.parameters()
    for layer in folded.candidate.network.layers():
        code, weight = encoded(int4, layer.weight), own[layer.weight]
        assert (code.axis, code.bits) == (0, 4)
        assert is_full_grid(code)
        assert code.indices.max() < 16
        integers = code.integers()
        assert np.abs(integers.astype(int)).max() <= 7
        rows = weight.reshape(len(weight), -1)
        whole = np.abs(rows).max(axis=1, keepdims=True) / 7
        plain = (np.rint(rows / whole) * whole - rows) ** 2
        ours = (code.decode().reshape(rows.shape) - rows) ** 2
        assert (ours.sum(axis=1) <= plain.sum(axis=1) * (1 + 1e-5)).all()


def test_a_weight_on_the_grid_stays_bit_for_bit() -> None:
    integers = np.random.default_rng(0).integers(-7, 8, (4, 5, 3)).astype(np.int8)
    integers[:, 0, 0] = -7
    scale = np.array([0.1, 0.7, 1e-3, 12.0], np.float32)
    weight = integers * scale[:, None, None]
    found = dense_integers(weight, 0, NONE, bits=4)
    np.testing.assert_array_equal(found.integers(), integers)
    np.testing.assert_array_equal(found.decode(), weight)


def test_pairs_choose_by_layer_and_the_rest_takes_eight(folded: Trained) -> None:
    layers = folded.candidate.network.layers()
    stage = QuantizeInt8(weight_bits=((layers[1].name, 4),))
    done = stage(*folded).candidate
    found = {layer.name: encoded(done, layer.weight).codebook.size for layer in layers}
    assert found == {la.name: 16 if la.name == layers[1].name else 256 for la in layers}


def test_the_candidate_computes_on_integers_and_stays_useful(
    folded: Trained, int4: Candidate
) -> None:
    int4.check()
    task = folded.task
    before = task.evaluate(folded.candidate.predict)["top1"]
    assert task.evaluate(simulate(int4).predict)["top1"] >= before - 0.05


def test_pruned_weights_stay_zero(folded: Trained) -> None:
    pruned = PruneMagnitude(0.6)(*folded).candidate
    done = QuantizeInt8(weight_bits=4)(pruned, folded.task).candidate
    for layer in pruned.network.layers():
        zeros = pruned.encodings[layer.weight].zeros()
        assert zeros.any()
        assert not encoded(done, layer.weight).integers()[zeros].any()


def test_training_stays_on_the_grid(int4: Candidate) -> None:
    images, labels = (torch.from_numpy(part[:64]) for part in digits()["train"])
    with constrained(int4) as tuning:
        optimizer = torch.optim.SGD(tuning.model.parameters(), lr=2.0)
        for _ in range(4):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(tuning.model(images), labels).backward()
            optimizer.step()
    tuning.result.check()
    moved = 0
    for name, before in int4.encodings.items():
        after = encoded(tuning.result, name)
        assert is_full_grid(after)
        assert after.codebook.size == 16
        assert np.abs(after.integers().astype(int)).max() <= 7
        moved += int((after.integers() != encoded(int4, name).integers()).sum())
        assert isinstance(before, Encoded)
    assert moved
