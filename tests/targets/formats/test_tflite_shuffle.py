"""Channel shuffles on the last axis: the same values, in four dimensions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from targets.formats.tflite import TFLiteExporter
from targets.formats.tflite_schema import Source
from targets.formats.tflite_shuffle import shuffled_last
from tests.nets import digits_branch_spec
from tests.onnx_files import folded


class Viewed(nn.Module):
    """As torchvision's ShuffleNetV2 says it."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parted = torch.relu(x).view(n, 2, c // 2, h, w)
        return parted.transpose(1, 2).contiguous().view(n, c, h, w) + 1


class Permuted(nn.Module):
    """By permute and flatten, in three groups, twice."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x.unflatten(1, (3, -1)).permute(0, 2, 1, 3, 4).flatten(1, 2)
        return x


class Named(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.channel_shuffle(x, 4)


class OtherAxes(nn.Module):
    """Five dimensions, but rows change places, not channels."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, 2, h // 2, w).transpose(2, 3).reshape(n, c, h, w)


class OtherShape(nn.Module):
    """An exchange of channel groups that ends in other channels than it began with."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c // 2, 2 * h, w)


PICTURES = torch.arange(12 * 4 * 5, dtype=torch.float32).reshape(1, 12, 4, 5)


@pytest.mark.parametrize("net", [Viewed(), Permuted(), Named()], ids=lambda n: type(n).__name__)
def test_a_shuffle_keeps_its_values_and_needs_four_dimensions(net: nn.Module) -> None:
    made = shuffled_last(net, (1, 12, 4, 5))
    assert isinstance(made, fx.GraphModule)
    assert torch.equal(made.eval()(PICTURES), net(PICTURES))
    assert not torch.equal(net(PICTURES), PICTURES)
    operators = [str(node.target) for node in made.graph.nodes]
    assert not any("channel_shuffle" in name for name in operators)
    assert max(len(made_shape) for made_shape in shapes(made)) == 4


def shapes(module: fx.GraphModule) -> list[list[int]]:
    """Of every tensor that the module computes."""
    found: list[list[int]] = []

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value: object = super().run_node(n)
            if isinstance(value, Tensor):
                found.append(list(value.shape))
            return value

    Watch(module).run(PICTURES)
    return found


@pytest.mark.parametrize("net", [OtherAxes(), OtherShape(), nn.ReLU()])
def test_what_is_no_shuffle_stays(net: nn.Module) -> None:
    assert shuffled_last(net, (1, 12, 4, 5)) is net


def test_a_shuffling_net_has_four_dimensions_and_one_transpose_a_shuffle(tmp_path: Path) -> None:
    path = TFLiteExporter()(folded(digits_branch_spec), tmp_path / "net.tflite").path
    source = Source(path.read_bytes())
    assert max(len(tensor.shape) for tensor in source.tensors) == 4
    kinds = [source.kind(operator) for operator in source.operators]
    assert kinds.count("TRANSPOSE") == 2
