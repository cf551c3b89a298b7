"""The candidate's laws, each broken once; its digest, which notices every change."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.candidate import ActivationQuant, Candidate, Step
from compress.edit import Factorized, FoldedBatchNorm
from compress.encoding import Encoded, Masked
from compress.errors import CheckpointError, EdgepressError, EncodingError
from compress.graph import TensorId
from compress.network import TorchNetwork
from tests.candidates import fresh, half_mask, mixed, shared
from tests.nets import digits_plain, digits_plain_spec, digits_residual_spec

INPUT = TensorId("", "input")
RELU = TensorId("", "relu")
GRID = ActivationQuant(0.01, 128)


def with_module(candidate: Candidate, module: nn.Module) -> Candidate:
    return dataclasses.replace(candidate, network=TorchNetwork(module, (1, 1, 8, 8)))


def hooked() -> Candidate:
    candidate = fresh()
    module = candidate.network.module()
    module.get_submodule("fc1").register_forward_hook(lambda *_: None)
    return with_module(candidate, module)


def backward_hooked() -> Candidate:
    candidate = fresh()
    module = candidate.network.module()
    module.get_submodule("fc1").register_full_backward_pre_hook(lambda *_: None)
    return with_module(candidate, module)


class Twice(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def parametrized() -> Candidate:
    candidate = fresh()
    module = candidate.network.module()
    parametrize.register_parametrization(module.get_submodule("fc1"), "bias", Twice())
    return with_module(candidate, module)


def another_structure() -> Candidate:
    return dataclasses.replace(fresh(), edits=(Factorized("fc1", 3),))


def another_net() -> Candidate:
    return dataclasses.replace(fresh(), spec=digits_residual_spec())


def diverged() -> Candidate:
    weight = fresh().network.parameters()["fc1.weight"].copy()
    weight[0, 0] = np.nan
    candidate = fresh()
    return dataclasses.replace(
        candidate, network=candidate.network.with_parameters({"fc1.weight": weight})
    )


def encoded(**encodings: Any) -> Candidate:
    named = {f"{name}.weight": encoding for name, encoding in encodings.items()}
    return dataclasses.replace(fresh(), encodings=named)


def negative_zero() -> Candidate:
    candidate = fresh()
    masked = Masked(np.zeros((10, 40), np.bool_))
    network = candidate.network.with_parameters({"fc2.weight": np.full((10, 40), -0.0)})
    return dataclasses.replace(candidate, network=network, encodings={"fc2.weight": masked})


def one_bit_off() -> Candidate:
    candidate = mixed(fresh())
    weight = candidate.network.parameters()["fc2.weight"].copy()
    weight[3, 7] = np.nextafter(weight[3, 7], np.float32(9))
    network = candidate.network.with_parameters({"fc2.weight": weight})
    return dataclasses.replace(candidate, network=network)


def gridded(grids: Mapping[TensorId, ActivationQuant], *ties: frozenset[TensorId]) -> Candidate:
    return dataclasses.replace(fresh(), activations=grids, ties=ties)


def with_grid(**changed: Any) -> Candidate:
    return gridded({INPUT: dataclasses.replace(GRID, **changed)})


BROKEN = {
    "a hook is left": (hooked, CheckpointError, "'fc1' still has hooks"),
    "a backward hook is left": (backward_hooked, CheckpointError, "'fc1' still has hooks"),
    "a parametrization is left": (parametrized, CheckpointError, "fc1.*bias"),
    "edits do not give the net": (another_structure, CheckpointError, r"fc1\.0\.weight"),
    "the specification is another net's": (another_net, CheckpointError, "bn1.bias"),
    "a parameter is NaN": (diverged, CheckpointError, "'fc1.weight'.*not finite"),
    "encoding without parameter": (
        lambda: encoded(fc9=half_mask((2, 2))),
        EncodingError,
        "'fc9.weight', which the net does not have; give the encodings of this very net",
    ),
    "encoding of another shape": (
        lambda: encoded(fc2=half_mask((2, 2))),
        EncodingError,
        r"shape \(2, 2\); the parameter has \(10, 40\): give the encodings of this",
    ),
    "a pruned weight is not zero": (
        lambda: encoded(fc2=half_mask((10, 40))),
        EncodingError,
        r"'fc2.weight' at \(\d+, \d+\).*mask gives 0.0",
    ),
    "a pruned weight is minus zero": (negative_zero, EncodingError, r"\(0, 0\).*-0.0"),
    "a shared weight is a bit off": (one_bit_off, EncodingError, r"at \(3, 7\).*codebook gives"),
    "a grid on no tensor": (
        lambda: gridded({TensorId("x", "relu"): GRID}),
        EncodingError,
        "'x/relu#0', which the net does not have; quantize this very net",
    ),
    "a scale of zero": (lambda: with_grid(scale=0.0), EncodingError, "'/input#0' is 0.0"),
    "a scale below float32": (lambda: with_grid(scale=1e-60), EncodingError, "1e-60"),
    "a negative scale": (lambda: with_grid(scale=-1.0), EncodingError, "-1.0"),
    "a scale of NaN": (lambda: with_grid(scale=float("nan")), EncodingError, "nan"),
    "a numpy scale, which JSON lacks": (
        lambda: with_grid(scale=np.float32(1)),
        EncodingError,
        "float above 0",
    ),
    "a zero point off the grid": (lambda: with_grid(zero_point=256), EncodingError, "range"),
    "a negative zero point": (lambda: with_grid(zero_point=-1), EncodingError, "range"),
    "too many bits": (lambda: with_grid(bits=10**9), EncodingError, "range"),
    "tied tensors with two grids": (
        lambda: gridded(
            {INPUT: GRID, RELU: dataclasses.replace(GRID, scale=0.02)}, frozenset({INPUT, RELU})
        ),
        EncodingError,
        "/input#0, /relu#0 must share a grid",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_law_broken_once(case: str) -> None:
    make, kind, message = BROKEN[case]
    candidate = make()
    with pytest.raises(EdgepressError, match=message) as error:
        candidate.check()
    assert type(error.value) is kind
    assert "\n" not in str(error.value)


def test_both_values_are_told_to_the_last_digit() -> None:
    candidate = one_bit_off()
    with pytest.raises(EncodingError) as error:
        candidate.check()
    found = re.search(
        r"'fc2\.weight' at \(3, 7\): the .* is (\S+), .* gives (\S+);", str(error.value)
    )
    assert found is not None
    weight = candidate.network.parameters()["fc2.weight"]
    assert np.float32(found[1]) == weight[3, 7]
    assert np.float32(found[2]) == candidate.encodings["fc2.weight"].project(weight)[3, 7]
    assert found[1] != found[2]


def test_good_candidates_pass() -> None:
    fresh().check()
    mixed(fresh()).check()
    gridded({INPUT: GRID, RELU: GRID}, frozenset({INPUT, RELU})).check()
    fresh(digits_residual_spec).check()


CHANGES = {
    "a parameter": lambda c: c.with_values({"fc1.bias": np.ones(40, np.float32)}, {}),
    "the specification": lambda c: dataclasses.replace(
        c, spec=dataclasses.replace(c.spec, classes=("a",))
    ),
    "the edits": lambda c: dataclasses.replace(c, edits=(FoldedBatchNorm("a", "b"),)),
    "an encoding": lambda c: c.with_values({}, {"fc1.weight": half_mask((40, 64), seed=5)}),
    "an encoding of the same values": lambda c: dataclasses.replace(
        c, encodings={**c.encodings, "fc1.bias": Masked(np.ones(40, np.bool_))}
    ),
    "a grid": lambda c: dataclasses.replace(c, activations={INPUT: GRID}),
    "a zero point": lambda c: dataclasses.replace(
        c, activations={INPUT: dataclasses.replace(GRID, zero_point=1)}
    ),
    "ties": lambda c: dataclasses.replace(c, ties=(frozenset({INPUT, RELU}),)),
    "float layers": lambda c: dataclasses.replace(c, float_nodes=("fc1",)),
}


def test_the_digest_notices_every_change_and_only_changes() -> None:
    base = mixed(fresh())
    digests = [base.digest(), *(change(base).digest() for change in CHANGES.values())]
    assert len(set(digests)) == len(digests)
    assert mixed(fresh()).digest() == base.digest()
    assert mixed(fresh(seed=1)).digest() != base.digest()


def test_new_values_are_projected_and_the_old_candidate_stays() -> None:
    candidate = mixed(fresh())
    before = candidate.digest()
    values = np.random.default_rng(3).normal(size=(40, 64))
    changed = candidate.with_values({"fc1.weight": values.astype(np.float32)}, {})
    changed.check()
    masked = candidate.encodings["fc1.weight"]
    weight = changed.network.parameters()["fc1.weight"]
    assert not weight[masked.zeros()].any()
    np.testing.assert_array_equal(
        weight[~masked.zeros()], values.astype(np.float32)[~masked.zeros()]
    )
    assert candidate.digest() == before


def test_float64_values_do_not_make_a_float64_net() -> None:
    changed = fresh().with_values({"fc1.weight": np.full((40, 64), 0.1)}, {})  # type: ignore[dict-item]
    assert changed.network.parameters()["fc1.weight"].dtype == np.float32
    assert changed.predict(np.zeros((1, 1, 8, 8), np.float32)).dtype == np.float32


def test_what_is_handed_out_cannot_change_the_candidate() -> None:
    candidate = mixed(fresh())
    before = candidate.digest()
    for arrays in (candidate.network.parameters(), candidate.network.state()):
        for array in arrays.values():
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 7
    for parameter in candidate.network.module().parameters():
        parameter.data.zero_()
    assert dataclasses.replace(candidate).digest() == before


def test_what_was_handed_in_cannot_change_the_candidate() -> None:
    candidate = fresh()
    weight = candidate.network.parameters()["fc1.weight"].copy()
    changed = candidate.with_values({"fc1.weight": weight}, {})
    again = candidate.network.with_parameters({"fc1.weight": weight})
    weight[...] = 7
    for network in (changed.network, again):
        assert not (network.parameters()["fc1.weight"] == 7).any()


def test_networks_share_what_is_the_same_in_them() -> None:
    before = fresh()
    weight = before.network.parameters()["fc1.weight"] * 2
    after = before.with_values({"fc1.weight": weight}, {})
    old, new = before.network.parameters(), after.network.parameters()
    assert [n for n in old if not np.shares_memory(old[n], new[n])] == ["fc1.weight"]
    assert np.array_equal(new["fc1.weight"], 2 * old["fc1.weight"])
    assert not after.network.module().fc1.weight.requires_grad


def test_a_digest_is_kept_as_long_as_the_net_stays() -> None:
    candidate = mixed(fresh())
    digest = candidate.digest()
    later = candidate.with_history((Step("Stage", "Stage()", 1.0),))
    assert later.history != candidate.history
    assert later.digest() == dataclasses.replace(later).digest() == digest
    assert candidate.with_values({}, {}).digest() == digest
    bias = candidate.network.parameters()["fc1.bias"] + np.float32(1)
    assert candidate.with_values({"fc1.bias": bias}, {}).digest() != digest


def test_a_candidate_from_a_module_an_array_mapping_and_a_file(tmp_path: Path) -> None:
    net = digits_plain()
    file = tmp_path / "net.pt"
    torch.save(net.state_dict(), file)
    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    spec = digits_plain_spec()
    digests = {Candidate.load(spec, w).digest() for w in (net, arrays, file, str(file))}
    assert len(digests) == 1
    candidate = Candidate.load(spec, net)
    before = candidate.digest()
    net.get_parameter("fc1.weight").data.zero_()
    assert candidate.digest() == before


def test_half_precision_modules_become_float32() -> None:
    net = digits_plain().to(torch.bfloat16)
    candidate = Candidate.load(digits_plain_spec(), net)
    assert candidate.network.parameters()["fc1.weight"].dtype == np.float32


def test_predict_takes_any_number_of_pictures() -> None:
    candidate = fresh()
    pictures = np.random.default_rng(0).random((300, 1, 8, 8)).astype(np.float32)
    whole = candidate.predict(pictures)
    assert whole.shape == (300, 10)
    np.testing.assert_allclose(candidate.predict(pictures[299:]), whole[299:], atol=1e-5)
    assert candidate.predict(pictures[:0]).shape == (0, 10)


def test_encoded_parameters_are_decoded_into_the_net() -> None:
    candidate = fresh().with_values({}, {"fc2.weight": shared((10, 40))})
    encoding = candidate.encodings["fc2.weight"]
    assert isinstance(encoding, Encoded)
    np.testing.assert_array_equal(candidate.network.parameters()["fc2.weight"], encoding.decode())


def test_weights_from_before_batch_counters_load() -> None:
    """Early PyTorch kept none, and files of that time are still the published ones."""
    spec = digits_residual_spec()
    state = {
        name: tensor.numpy()
        for name, tensor in spec.build().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    loaded = Candidate.load(spec, state)
    assert loaded.network.state()["bn1.num_batches_tracked"] == 0
    assert np.array_equal(loaded.network.state()["bn1.running_var"], state["bn1.running_var"])
    del state["bn1.running_var"]
    with pytest.raises(CheckpointError, match=r"lacks tensor 'bn1\.running_var'"):
        Candidate.load(spec, state)
