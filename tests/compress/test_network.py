"""Tests of compress/network.py."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from compress.network import TorchNetwork, load_state


def net() -> nn.Module:
    """Two linear layers that share one weight, and a batch norm."""
    made = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    made[1].weight = made[0].weight
    return made


def state() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        name: np.array(generator.random(tuple(tensor.shape)), tensor.numpy().dtype)
        for name, tensor in net().state_dict().items()
    }


def test_owned_arrays_are_taken_over_and_ties_stay() -> None:
    module, arrays = net(), state()
    load_state(module, arrays, "the test", own=True)
    assert module[0].weight is module[1].weight
    assert np.shares_memory(module[2].running_mean.numpy(), arrays["2.running_mean"])
    assert np.shares_memory(module[0].bias.detach().numpy(), arrays["0.bias"])


def test_owned_and_copied_arrays_give_the_same_net() -> None:
    batch = np.random.default_rng(1).random((4, 3), np.float32)
    outputs = []
    for own in (False, True):
        module, arrays = net(), state()
        load_state(module, arrays, "the test", own=own)
        shared = np.shares_memory(module[0].bias.detach().numpy(), arrays["0.bias"])
        assert shared == own
        outputs.append(TorchNetwork(module, (1, 3)).predict(batch))
    assert np.array_equal(*outputs)


def test_owned_arrays_of_another_type_or_read_only_are_copied() -> None:
    module, arrays = net(), state()
    arrays["0.bias"] = arrays["0.bias"].astype(np.float64)
    arrays["1.bias"].flags.writeable = False
    load_state(module, arrays, "the test", own=True)
    assert module[0].bias.dtype == torch.float32
    with torch.no_grad():
        module[1].bias.add_(1)
    assert np.allclose(module[1].bias.detach().numpy(), arrays["1.bias"] + 1)
