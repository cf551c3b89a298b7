"""Spike 2: parametrize keeps names, sums gradients for each centroid and leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from compress.candidate import Candidate
from compress.constrained import Constrained, constrained
from compress.encoding import Encoded, Encoding
from compress.errors import CheckpointError, TaskError
from compress.parametrizations import RefreshedWeight, SharedWeight
from tests.candidates import fresh, half_mask, int8, shared
from tests.nets import digits_plain_spec, digits_residual_spec

SHAPE = (40, 64)
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd with momentum and decay": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True
    ),
    "adam with decay": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
}


def shared_integers() -> Encoded:
    """Weight sharing on an integer grid: few int8 codes, a scale for each channel."""
    rng = np.random.default_rng(0)
    codebook = np.array([0, -100, -30, -5, 9, 44, 127], np.int8)
    scale = (rng.random(40) * 0.01 + 0.001).astype(np.float32)
    return Encoded(rng.integers(0, 7, SHAPE).astype(np.uint8), codebook, scale, 0)


def shared_by_bytes() -> Encoded:
    """256 clusters on an integer grid, in no order: not the full grid, whose codes are bytes."""
    rng = np.random.default_rng(0)
    codebook = np.append(0, rng.integers(1, 128, 255)).astype(np.int8)
    indices = rng.integers(0, 256, SHAPE).astype(np.uint8)
    return Encoded(indices, codebook, np.full(1, 0.01, np.float32))


ENCODINGS: dict[str, Callable[[], Encoding]] = {
    "mask": lambda: half_mask(SHAPE),
    "shared floats": lambda: shared(SHAPE),
    "dense int8": lambda: int8(SHAPE),
    "shared int8": shared_integers,
    "shared int8, 256 clusters": shared_by_bytes,
}


def encoded(kind: str) -> Candidate:
    return fresh().with_values({}, {"fc1.weight": ENCODINGS[kind]()})


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(16, 1, 8, 8, generator=generator)
    return images, torch.randint(0, 10, (16,), generator=generator)


def train(model: nn.Module, optimizer: Optimizer, steps: int = 5) -> None:
    chosen = optimizer(list(model.parameters()))
    for step in range(steps):
        images, labels = batch(step)
        chosen.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        chosen.step()


@pytest.mark.parametrize("kind", ENCODINGS)
def test_training_nothing_changes_nothing(kind: str) -> None:
    candidate = encoded(kind)
    with constrained(candidate) as tuning:
        pass
    assert tuning.result.digest() == candidate.digest()


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_model_inside_computes_what_the_candidate_does(kind: str) -> None:
    candidate = encoded(kind)
    images, _ = batch()
    with constrained(candidate) as tuning, torch.no_grad():
        inside = tuning.model(images).numpy()
    np.testing.assert_allclose(inside, candidate.predict(images.numpy()), atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ENCODINGS)
def test_any_optimizer_trains_inside_the_encoding(kind: str, optimizer: str) -> None:
    candidate = encoded(kind)
    before = candidate.digest()
    with constrained(candidate) as tuning:
        train(tuning.model, OPTIMIZERS[optimizer])
    result = tuning.result
    result.check()
    assert candidate.digest() == before
    old, new = (c.network.parameters()["fc1.weight"] for c in (candidate, result))
    assert (old != new).any()
    zeros = candidate.encodings["fc1.weight"].zeros()
    assert zeros.any()
    assert not new[zeros].any()
    bias = result.network.parameters()["fc2.bias"]
    assert (bias != candidate.network.parameters()["fc2.bias"]).all()


@pytest.mark.parametrize("kind", ["shared floats", "shared int8"])
def test_clusters_stay_and_their_values_move(kind: str) -> None:
    candidate = encoded(kind)
    with constrained(candidate) as tuning:
        train(tuning.model, OPTIMIZERS["sgd with momentum and decay"], steps=20)
    old, new = (c.encodings["fc1.weight"] for c in (candidate, tuning.result))
    assert isinstance(old, Encoded)
    assert isinstance(new, Encoded)
    np.testing.assert_array_equal(new.indices, old.indices)
    np.testing.assert_array_equal(new.scale, old.scale)
    assert new.codebook.dtype == old.codebook.dtype
    assert new.codebook[0] == 0
    assert (new.codebook[1:] != old.codebook[1:]).any()


@pytest.mark.parametrize("kind", ["dense int8", "shared int8"])
def test_an_integer_grid_stays_one(kind: str) -> None:
    candidate = encoded(kind)
    with constrained(candidate) as tuning:
        train(tuning.model, OPTIMIZERS["adam with decay"], steps=20)
    old, new = (c.encodings["fc1.weight"] for c in (candidate, tuning.result))
    assert isinstance(old, Encoded)
    assert isinstance(new, Encoded)
    np.testing.assert_array_equal(new.scale, old.scale)
    weight = tuning.result.network.parameters()["fc1.weight"]
    codes = weight / new.broadcast_scale()
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    assert np.abs(new.integers().astype(int)).max() <= 127
    assert (new.integers() != old.integers()).any()


def test_integer_codes_far_outside_are_held_at_the_grids_ends() -> None:
    for kind in ("dense int8", "shared int8"):
        with constrained(encoded(kind)) as tuning, torch.no_grad():
            for parameter in tuning.model.parameters():
                parameter.mul_(1e9)
        tuning.result.check()
        encoding = tuning.result.encodings["fc1.weight"]
        assert isinstance(encoding, Encoded)
        integers = encoding.integers()
        assert set(np.unique(integers)) == {-127, 0, 127}


@pytest.mark.parametrize("codes", [2, 8, 64])
def test_a_centroids_gradient_is_the_sum_over_its_cluster(codes: int) -> None:
    encoding = shared(SHAPE, codes)
    candidate = fresh().with_values({}, {"fc1.weight": encoding})
    dense = candidate.network.module().requires_grad_(True)
    images, labels = batch()
    F.cross_entropy(dense(images), labels).backward()
    with constrained(candidate) as tuning:
        F.cross_entropy(tuning.model(images), labels).backward()
        part = tuning.model.get_submodule("fc1.parametrizations.weight.0")
        assert isinstance(part, SharedWeight)
        found = part.codebook.grad
        original = tuning.model.get_parameter("fc1.parametrizations.weight.original")
        assert original.grad is None
    gradient = dense.get_parameter("fc1.weight").grad
    assert gradient is not None
    assert found is not None
    for code in range(codes):
        rows = torch.from_numpy(encoding.indices == code)
        expected = float(gradient[rows].double().sum()) if code else 0.0  # code 0 never moves
        assert float(found[code]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_centroids_gradient_is_added_in_the_order_of_the_weights(threads: int) -> None:
    """Bit for bit what indexing gives where torch is told to be deterministic, at any threads."""
    rng = np.random.default_rng(0)
    codebook = np.concatenate([[0], rng.normal(size=15)]).astype(np.float32)
    indices = rng.integers(0, 16, (300, 401)).astype(np.uint8)
    part = SharedWeight(Encoded(indices, codebook, np.ones(1, np.float32)))
    gradient = torch.from_numpy(rng.normal(size=indices.shape).astype(np.float32))
    before, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    try:
        (part(torch.zeros(())) * gradient).sum().backward()
        twin = torch.from_numpy(codebook).requires_grad_()
        torch.set_deterministic_debug_mode("error")
        (twin[part.indices] * gradient).sum().backward()
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode(mode)
    assert part.codebook.grad is not None
    assert twin.grad is not None
    assert torch.equal(part.codebook.grad[1:], twin.grad[1:])


def test_a_pruned_weight_gets_no_gradient() -> None:
    candidate = encoded("mask")
    images, labels = batch()
    with constrained(candidate) as tuning:
        F.cross_entropy(tuning.model(images), labels).backward()
        gradient = tuning.model.get_parameter("fc1.parametrizations.weight.original").grad
        assert gradient is not None
        assert not gradient[torch.from_numpy(candidate.encodings["fc1.weight"].zeros())].any()
        assert gradient.any()


@pytest.mark.parametrize("kind", ENCODINGS)
def test_no_trace_is_left(kind: str) -> None:
    candidate = encoded(kind)
    with constrained(candidate) as tuning:
        train(tuning.model, OPTIMIZERS["sgd"])
    before, after = candidate.network.module(), tuning.result.network.module()
    assert list(after.state_dict()) == list(before.state_dict())
    assert sorted(n for n, _ in after.named_parameters()) == sorted(
        n for n, _ in before.named_parameters()
    )
    assert [type(m) for m in after.modules()] == [type(m) for m in before.modules()]
    assert type(after.get_submodule("fc1")) is nn.Linear
    assert not any(hasattr(m, "parametrizations") for m in after.modules())
    assert not any(p.requires_grad for p in after.parameters())
    images = batch()[0]
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(after)(images), after(images), rtol=0, atol=0)
    assert list(tuning.result.network.parameters()) == list(candidate.network.parameters())


def test_the_model_can_be_copied_inside_as_for_an_average_of_weights() -> None:
    with constrained(encoded("shared floats")) as tuning:
        twin = copy.deepcopy(tuning.model)
        images, _ = batch()
        torch.testing.assert_close(twin(images), tuning.model(images))
        train(twin, OPTIMIZERS["sgd"])
    assert tuning.result.digest() == encoded("shared floats").digest()


def test_training_mode_inside_and_batch_norms_statistics_come_back() -> None:
    candidate = fresh(digits_residual_spec)
    with constrained(candidate) as tuning:
        assert tuning.model.training
        train(tuning.model, OPTIMIZERS["sgd"])
    before, after = (c.network.state() for c in (candidate, tuning.result))
    assert (before["bn1.running_mean"] != after["bn1.running_mean"]).any()
    assert after["bn1.num_batches_tracked"] == 5
    assert not tuning.result.network.module().training


def test_several_encodings_at_once_and_a_bias_among_them() -> None:
    base = fresh(digits_plain_spec)
    encodings: dict[str, Encoding] = {
        "fc1.weight": shared(SHAPE),
        "fc1.bias": half_mask((40,)),
        "fc2.weight": int8((10, 40)),
    }
    candidate = base.with_values({}, encodings)
    with constrained(candidate) as tuning:
        train(tuning.model, OPTIMIZERS["sgd with momentum and decay"])
    tuning.result.check()
    assert set(tuning.result.encodings) == set(encodings)


def test_an_error_inside_is_the_callers_and_no_result_is_given() -> None:
    candidate = encoded("shared floats")
    before = candidate.digest()
    held: list[Constrained] = []

    def failing() -> None:
        with constrained(candidate) as tuning:
            held.append(tuning)
            train(tuning.model, OPTIMIZERS["sgd"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert candidate.digest() == before
    with pytest.raises(AssertionError, match="has not ended"):
        _ = held[0].result


def test_what_a_loop_hangs_on_the_model_stays_there() -> None:
    with constrained(encoded("mask")) as tuning:
        fc1 = tuning.model.get_submodule("fc1")
        fc1.register_forward_hook(lambda *_: None)
        tuning.model.register_buffer("average", torch.zeros(3), persistent=False)
    tuning.result.check()
    assert not hasattr(tuning.result.network.module(), "average")


def test_a_loop_that_changes_the_structure_is_told_so() -> None:
    with (
        pytest.raises(CheckpointError, match=r"the tuned net: tensor 'fc2.bias'"),
        constrained(encoded("mask")) as tuning,
    ):
        tuning.model.fc2 = nn.Linear(40, 11)


@pytest.mark.parametrize("how", ["replaced", "removed", "released", "released and bound again"])
def test_a_loop_that_takes_a_constrained_module_out_is_told(how: str) -> None:
    """One line, and the candidate handed in stays as it was."""
    candidate = encoded("mask")
    before = candidate.digest()
    with (  # noqa: PT012
        pytest.raises(TaskError, match="replaced 'fc1', whose weight is held") as error,
        constrained(candidate) as tuning,
    ):
        model = tuning.model
        if how == "replaced":
            model.fc1 = nn.Linear(64, 40)
        elif how == "removed":
            del model.fc1
        else:
            parametrize.remove_parametrizations(model.get_submodule("fc1"), "weight")
        if how == "released and bound again":
            parametrize.register_parametrization(
                model.get_submodule("fc1"), "weight", nn.Identity()
            )
    assert "\n" not in str(error.value)
    assert not tuning.results
    assert candidate.digest() == before


def test_refreshed_weights_act_and_learn_as_shared_ones_until_refreshed() -> None:
    encoding = shared(SHAPE)
    plain, refreshed = SharedWeight(encoding), RefreshedWeight(encoding)
    weight = nn.Parameter(torch.from_numpy(encoding.decode()))
    goal = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    outputs = [part(weight) for part in (plain, refreshed)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    ((outputs[0] * goal).sum()).backward()
    assert weight.grad is None
    ((outputs[1] * goal).sum()).backward()
    assert plain.codebook.grad is not None
    assert refreshed.codebook.grad is not None
    torch.testing.assert_close(refreshed.codebook.grad, plain.codebook.grad)
    kept = torch.from_numpy(encoding.indices != 0)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, goal * kept)


@pytest.mark.parametrize("kind", ["shared floats", "shared int8"])
def test_a_refresh_gives_each_weight_its_nearest_cluster_and_keeps_zeros(kind: str) -> None:
    encoding = ENCODINGS[kind]()
    assert isinstance(encoding, Encoded)
    part = RefreshedWeight(encoding)
    moved = encoding.decode() + np.random.default_rng(3).normal(0, 0.5, SHAPE).astype(np.float32)
    if encoding.on_integers:
        moved = encoding.decode() * np.float32(0.4)
    part.refresh(torch.from_numpy(moved))
    indices = part.indices.numpy()
    zero = encoding.indices == 0
    assert ((indices == 0) == zero).all()
    values = encoding.codebook[1:].astype(np.float32)
    distance = np.abs((moved / encoding.broadcast_scale())[..., None] - values)
    chosen = np.take_along_axis(distance, indices[..., None].astype(int) - 1, -1)[..., 0]
    np.testing.assert_allclose(chosen[~zero], distance.min(-1)[~zero], rtol=1e-5, atol=1e-6)
    assert (indices != encoding.indices).any()
    assert int(part.refreshes) == 1


def test_a_refresh_of_weights_that_did_not_move_changes_nothing() -> None:
    for encoding in (shared(SHAPE), shared_integers(), shared(SHAPE, 1)):
        part = RefreshedWeight(encoding)
        part.refresh(torch.from_numpy(encoding.decode()))
        np.testing.assert_array_equal(part.indices.numpy(), encoding.indices)
