"""Forked runs give what a whole run with the change gives, whatever works in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import ActivationQuant
from compress.forked_runs import Change, answers
from compress.graph import TensorId
from compress.network import TorchNetwork, blocks
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from tests.digits import Trained


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(np.abs(wanted).max())))


class InPlace(nn.Module):
    """Residual sums and activations that write to their inputs, as torchvision's nets do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.hardswish(self.first(x), inplace=True)
        y += self.second(y)
        left, right = F.relu_(y).chunk(2, 1)
        y = torch.cat([right, left], 1)
        return self.head(y.mean((2, 3)))


@pytest.fixture(scope="module")
def in_place() -> TorchNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return TorchNetwork(InPlace(), (1, 3, 6, 6))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)


def test_each_change_of_weights_alone(in_place: TorchNetwork, pictures: np.ndarray) -> None:
    own = in_place.parameters()
    changes = [Change({name: 1.5 * value}) for name, value in own.items()]
    (block,) = blocks(pictures, 8)
    plain, found = answers(in_place.graph, {}, changes, block)
    assert close(plain, in_place.predict(pictures))
    for change, answer in zip(changes, found, strict=True):
        wanted = in_place.with_parameters(dict(change.values)).predict(pictures)
        assert close(answer, wanted)
        assert not close(answer, plain)
    assert all(np.array_equal(own[name], value) for name, value in in_place.parameters().items())


def test_each_grid_alone(in_place: TorchNetwork, pictures: np.ndarray) -> None:
    graph = in_place.graph
    tensors = [node.id for node in graph.nodes]
    changes = [Change(grids={t: ActivationQuant(0.3, 100)}) for t in tensors]
    (block,) = blocks(pictures, 8)
    _, found = answers(graph, {}, changes, block)
    for change, answer in zip(changes, found, strict=True):
        wanted, _ = answers(graph, dict(change.grids), (), torch.from_numpy(pictures.copy()))
        assert np.array_equal(answer, wanted)
    assert len({answer.tobytes() for answer in found}) >= 5


def test_grids_taken_away(trained_residual: Trained) -> None:
    folded = FoldBatchNorm()(*trained_residual).candidate
    int8 = QuantizeInt8()(folded, trained_residual.task).candidate
    images = next(iter(trained_residual.task.need_calibration("test")()))[:6]
    (block,) = blocks(images, 8)
    everything = Change(dict(folded.network.parameters()), dict.fromkeys(int8.activations))
    seen: list[TensorId] = []

    def see(tensor: TensorId, value: torch.Tensor) -> None:
        assert value.is_floating_point()
        seen.append(tensor)

    graph = int8.network.graph
    whole, (bare,) = answers(graph, int8.activations, [everything], block, see)
    assert close(bare, folded.predict(images))
    # Sums in another order round the other way, now and then.
    step = int8.activations[graph.outputs[0]].scale
    assert np.abs(whole - int8.predict(images)).max() <= 2.01 * step
    assert np.abs(whole - bare).max() > step
    assert len(seen) == len(set(seen)) == len(int8.network.graph.nodes)


def test_a_change_that_meets_nothing(in_place: TorchNetwork, pictures: np.ndarray) -> None:
    (block,) = blocks(pictures, 8)
    plain, found = answers(in_place.graph, {}, [Change(), Change()], block)
    assert all(np.array_equal(plain, answer) for answer in found)


def test_one_picture_at_a_time(in_place: TorchNetwork, pictures: np.ndarray) -> None:
    fixed = replace(in_place.graph, dynamic_batch=False)
    (block,) = blocks(pictures[:1], 1)
    plain, _ = answers(fixed, {}, [], block)
    assert close(plain, in_place.predict(pictures[:1]))
