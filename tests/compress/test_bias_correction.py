"""The shifts of means against plain loops over whole activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.bias_correction import channel_means, expected_shifts, seen_shifts
from compress.candidate import Candidate
from compress.simulate import simulate
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Batch
from tests.candidates import fresh
from tests.digits import digits, digits_task, trained
from tests.nets import digits_branch_spec, digits_channels_last_spec, digits_residual_spec

PICTURES = digits()["calibration"].images
ONE_BLOCK = PICTURES[:16]
SPECS = {"residual": digits_residual_spec, "branch": digits_branch_spec}


def folded(net: str) -> Candidate:
    candidate, task = trained(SPECS[net])
    return FoldBatchNorm()(candidate, task).candidate


def weights_of(candidate: Candidate) -> set[str]:
    return {layer.weight for layer in candidate.network.layers()}


def outputs(candidate: Candidate, batch: Batch) -> dict[str, np.ndarray]:
    """Each layer's mean output by its weight, before any activation or grid."""
    seen: dict[str, np.ndarray] = {}
    module = candidate.network.module()
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):

            def note(_: nn.Module, __: object, out: torch.Tensor, n: str = name) -> None:
                axes = tuple(a for a in range(out.dim()) if a != 1)
                seen[f"{n}.weight"] = out.double().mean(axes).numpy()

            layer.register_forward_hook(note)
    module(torch.from_numpy(batch.copy()))
    return seen


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple),
    seed=st.integers(0, 1000),
)
def test_the_mean_of_each_channel(shape: tuple[int, ...], seed: int) -> None:
    value = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for channel in (1, len(shape) - 1):
        axes = tuple(a for a in range(len(shape)) if a != channel)
        wanted = value.astype(np.float64).mean(axis=axes)
        found = channel_means(torch.from_numpy(value), channel)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_linear_layers_channels_come_last_however_many_axes_there_are() -> None:
    before = fresh(digits_channels_last_spec)
    after = QuantizeInt8(weight_bits=4)(before, digits_task()).candidate
    own, new = before.network.parameters(), after.network.parameters()
    tensors = before.network.activations(PICTURES)
    name = "one.weight"
    node = next(n for n in before.network.graph.nodes if n.parameters.get("weight") == name)
    lost = tensors[node.inputs[0]] @ (own[name] - new[name]).T
    found = expected_shifts(before.network, after.network, {name}, [PICTURES])
    np.testing.assert_allclose(found[name], lost.mean((0, 1, 2)), atol=1e-6)
    moved = tensors[node.id] - simulate(after).activations(PICTURES)[node.id]
    found = seen_shifts(before.network, simulate(after), {name}, [PICTURES])
    np.testing.assert_allclose(found[name], moved.mean((0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize("net", SPECS)
def test_expected_is_the_mean_of_both_weights_outputs_for_the_same_inputs(net: str) -> None:
    """At borders too, where a padded zero has no error; over blocks and a rest of another size."""
    before, task = folded(net), trained(SPECS[net]).task
    after = ShareWeights(2)(before, task).candidate
    batches = [PICTURES[:40], PICTURES[40:51]]
    found = expected_shifts(before.network, after.network, weights_of(before), batches)
    assert found.keys() == weights_of(before)
    seen = before.network.activations(PICTURES[:51])
    one, two = before.network.module(), after.network.module()
    for node in before.network.graph.nodes:
        if node.id.operator not in ("conv2d", "linear"):
            continue
        given_ = torch.from_numpy(seen[node.inputs[0]])
        name = node.parameters["weight"].removesuffix(".weight")
        lost = one.get_submodule(name)(given_) - two.get_submodule(name)(given_)
        wanted = lost.double().mean([a for a in range(lost.dim()) if a != 1]).numpy()
        np.testing.assert_allclose(found[node.parameters["weight"]], wanted, atol=2e-6)
        assert np.abs(wanted).max() > 1e-3


@pytest.mark.parametrize("net", SPECS)
def test_seen_brings_every_mean_back_where_there_are_no_grids(net: str) -> None:
    """Later layers' shifts only fit where those of the earlier ones are at work."""
    before, task = folded(net), trained(SPECS[net]).task
    after = ShareWeights(2)(before, task).candidate
    found = seen_shifts(before.network, simulate(after), weights_of(before), [ONE_BLOCK])
    own = after.network.parameters()
    biases = {n.replace("weight", "bias"): s for n, s in found.items()}
    mended = after.with_values({n: (own[n] + s).astype(np.float32) for n, s in biases.items()}, {})
    wanted, missed = outputs(before, ONE_BLOCK), outputs(after, ONE_BLOCK)
    for name, means in outputs(mended, ONE_BLOCK).items():
        np.testing.assert_allclose(means, wanted[name], atol=2e-5, err_msg=name)
        assert np.abs(missed[name] - wanted[name]).max() > 1e-3


def test_seen_counts_what_grids_do_before_they_round() -> None:
    before, task = folded("residual"), trained(digits_residual_spec).task
    after = QuantizeInt8()(before, task).candidate
    found = seen_shifts(before.network, simulate(after), weights_of(before), [ONE_BLOCK])
    exact = after.network.with_parameters(before.network.parameters())
    of_weights = expected_shifts(before.network, after.network, weights_of(before), [ONE_BLOCK])
    assert not np.allclose(found["fc.weight"], of_weights["fc.weight"], atol=1e-4)
    nothing = expected_shifts(before.network, exact, weights_of(before), [ONE_BLOCK])
    assert all((shift == 0).all() for shift in nothing.values())


def test_blocks_and_not_batches_matter_and_none_is_kept() -> None:
    before, task = folded("branch"), trained(digits_branch_spec).task
    after = QuantizeInt8()(before, task).candidate
    names = weights_of(before)
    whole = seen_shifts(before.network, simulate(after), names, [PICTURES])
    passed: list[int] = []

    def batches() -> object:
        for start in range(0, len(PICTURES), 32):
            passed.append(start)
            yield PICTURES[start : start + 32]

    split = seen_shifts(before.network, simulate(after), names, batches())  # type: ignore[arg-type]
    assert passed == [0, 32, 64, 96]  # one pass over an iterator that cannot be read again
    for name in names:
        np.testing.assert_array_equal(split[name], whole[name])
