"""reconstruction: layers see the changed net's inputs and the old net's outputs, in few bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress import reconstruction
from compress.candidate import Candidate
from compress.columns import columns, columns_at, positions_of
from compress.liveness import pictures_that_fit
from compress.network import LayerInfo
from compress.reconstruction import Sample, Sampling, reconstruct
from compress.stages.fold_batchnorm import FoldBatchNorm
from tests.compress.test_moments import LAYERS
from tests.digits import digits, trained
from tests.nets import digits_branch_spec, digits_residual_spec

PICTURES = digits()["train"].images[:20]


def folded(spec: Any = digits_residual_spec) -> Candidate:
    return FoldBatchNorm()(*trained(spec)).candidate


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_columns_at_places_are_those_of_all_columns(make: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer: nn.Module = make()
    given = torch.randn(shape)
    every = columns(layer, given)
    places = torch.randint(every.shape[3], (len(given), 3))
    found = columns_at(layer, given, places)
    wanted = [every[b, :, :, p] for b in range(len(given)) for p in places[b]]
    torch.testing.assert_close(found, torch.stack(wanted, dim=1), rtol=0, atol=0)
    outputs = positions_of(layer, layer(given))
    assert outputs.shape[1] == every.shape[3]


def seen(
    candidate: Candidate, factor: float, positions: int = 4096
) -> dict[str, tuple[LayerInfo, Sample]]:
    """What each layer sees where every one before it has its weight times `factor`."""
    own, found = candidate.network.parameters(), {}

    def solve(layer: LayerInfo, sample: Sample) -> tuple[np.ndarray, None]:
        found[layer.name] = layer, sample
        return own[layer.weight] * np.float32(factor), None

    layers = candidate.network.layers()
    solved = reconstruct(candidate.network, layers, [PICTURES], Sampling(positions), solve)
    assert set(solved) == {layer.weight for layer in layers}
    return found


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec])
def test_unchanged_the_weight_gives_the_outputs_at_every_position(spec: Any) -> None:
    candidate = folded(spec)
    own = candidate.network.parameters()
    for layer, sample in seen(candidate, 1.0).values():
        weight = torch.from_numpy(own[layer.weight].copy())
        weight = weight.reshape(layer.groups, layer.shape[0] // layer.groups, -1)
        torch.testing.assert_close(
            torch.bmm(sample.inputs, weight.transpose(1, 2)), sample.outputs, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_what_an_operator_pads_is_padded_once(mode: str) -> None:
    spec = replace(digits_residual_spec(), builder=f"{__name__}:{mode}")
    candidate = Candidate.untrained(spec, 0)
    own = candidate.network.parameters()
    layer, sample = seen(candidate, 1.0)["0"]
    weight = torch.from_numpy(own[layer.weight].copy()).reshape(1, 4, -1)
    made = torch.bmm(sample.inputs, weight.transpose(1, 2))
    torch.testing.assert_close(made, sample.outputs, atol=1e-5, rtol=1e-5)


def padded(mode: Any) -> nn.Module:
    layer = nn.Conv2d(1, 4, 3, padding=1, padding_mode=mode)
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))


def reflect() -> nn.Module:
    return padded("reflect")


def circular() -> nn.Module:
    return padded("circular")


def replicate() -> nn.Module:
    return padded("replicate")


def test_inputs_come_from_the_changed_net_and_outputs_from_the_old_one() -> None:
    candidate = folded()
    before, after = seen(candidate, 1.0), seen(candidate, 0.5)
    first, *rest = before
    torch.testing.assert_close(before[first][1].inputs, after[first][1].inputs)
    for name in rest:
        torch.testing.assert_close(before[name][1].outputs, after[name][1].outputs)
        assert not torch.allclose(before[name][1].inputs, after[name][1].inputs)


def test_an_activation_function_behind_a_layer_gives_its_ends() -> None:
    limits = {name: (s.low, s.high) for name, (_, s) in seen(folded(), 1.0).items()}
    assert (0.0, np.inf) in limits.values()
    assert limits[list(limits)[-1]] == (-np.inf, np.inf)


def test_fewer_positions_are_drawn_from_every_picture_by_the_seed() -> None:
    one, two = (seen(folded(), 1.0, positions=40) for _ in range(2))
    for name, (_, sample) in one.items():
        assert sample.inputs.shape[1] <= 40
        torch.testing.assert_close(sample.inputs, two[name][1].inputs, rtol=0, atol=0)


def test_few_bytes_mean_few_pictures_where_tensors_are_wide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidate = folded()
    whole = {name: s.inputs.shape[1] for name, (_, s) in seen(candidate, 0.9).items()}
    graph = candidate.network.graph
    fits = pictures_that_fit(graph, 100_000)
    order = [fits[node.id] for node in graph.nodes]
    assert order == sorted(order)
    assert order[0] < order[-1]
    monkeypatch.setattr(reconstruction, "LIVE_BYTES", 8 * 100_000 // order[0])
    few = seen(candidate, 0.9)
    counts = {name: s.inputs.shape[1] for name, (_, s) in few.items()}
    assert counts != whole
    assert all(counts[name] <= whole[name] for name in counts)
    last = list(whole)[-1]
    assert counts[last] == whole[last] == len(PICTURES)


def test_later_blocks_see_what_earlier_layers_became(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last layer's inputs are the same, whenever a picture joined."""
    candidate = folded()
    whole = seen(candidate, 0.5)
    last = list(whole)[-1]
    monkeypatch.setattr(reconstruction, "LIVE_BYTES", 1)
    alone = seen(candidate, 0.5)
    size = reconstruction.BLOCK
    torch.testing.assert_close(alone[last][1].inputs, whole[last][1].inputs[:, :size])
