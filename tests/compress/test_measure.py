"""Counting: laws over every net, hand-computed layers, and nothing lost silently."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.measure import count
from compress.models.lenet import lenet5_spec
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.resnet_cifar import resnet20_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec, TensorSpec


def spec_of(*shape: int) -> ModelSpec:
    return ModelSpec(builder="tests:none", inputs=(TensorSpec("input", shape),))


def test_lenet5_layer_by_layer() -> None:
    spec = lenet5_spec()
    counted = count(spec, spec.build())
    assert [(c.name, c.kind, c.macs, c.parameters, c.output_shape) for c in counted.layers] == [
        ("conv1", "Conv2d", 24 * 24 * 20 * 25, 520, (1, 20, 24, 24)),
        ("conv2", "Conv2d", 8 * 8 * 50 * 20 * 25, 25_050, (1, 50, 8, 8)),
        ("fc1", "Linear", 400_000, 400_500, (1, 500)),
        ("fc2", "Linear", 5_000, 5_010, (1, 10)),
    ]
    assert counted.uncounted == (
        "max_pool2d_with_indices x 2: comparisons only",
        "relu x 1: comparisons only",
    )


@pytest.mark.parametrize(
    "spec",
    [
        mobilenet_v2_spec(small=True),
        shufflenet_v2_spec(small=True),
        squeezenet1_1_spec(small=True),
        resnet20_spec(),
    ],
    ids=lambda spec: spec.name,
)
def test_parts_add_up_and_every_parameter_has_its_layer(spec: ModelSpec) -> None:
    net = spec.build()
    counted = count(spec, net)
    assert counted.parameters == sum(p.numel() for p in net.parameters())
    for total in ("macs", "parameters", "nonzeros"):
        assert getattr(counted, total) == sum(getattr(layer, total) for layer in counted.layers)
    kinds = {layer.kind for layer in counted.layers}
    assert kinds == {"Conv2d", "BatchNorm2d", *(("Linear",) if "squeeze" not in spec.name else ())}
    assert any(line.startswith("native_batch_norm x") for line in counted.uncounted)


def test_grouped_and_strided_convolutions() -> None:
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 6, (1, 3), stride=2)
    )
    counted = count(spec_of(1, 8, 9, 9), net)
    assert [layer.macs for layer in counted.layers] == [81 * 8 * 9, 5 * 4 * 6 * 8 * 3]


def test_zeros_lower_nonzeros_only() -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    nn.init.ones_(net[0].weight)
    nn.init.ones_(net[0].bias)
    before = count(spec_of(1, 4), net)
    with torch.no_grad():
        net[0].weight[0] = 0.0
    after = count(spec_of(1, 4), net)
    assert (before.nonzeros, after.nonzeros) == (10, 6)
    assert (before.sparsity, after.sparsity) == (0.0, pytest.approx(0.4))
    assert (after.macs, after.parameters) == (8, 10)


class Unusual(nn.Module):
    """A layer called twice, one never called, and multiplications that no module owns."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4, bias=False)
        self.never = nn.Linear(4, 3, bias=False)
        self.free = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.twice(self.twice(x)), self.free).sin()


def test_unusual_nets_are_told_and_not_guessed() -> None:
    counted = count(spec_of(1, 4), Unusual())
    assert {layer.name: layer.macs for layer in counted.layers} == {"": 0, "twice": 32, "never": 0}
    assert counted.parameters == 16 + 16 + 12
    assert counted.uncounted == (
        "mm x 1: multiplies outside Conv2d and Linear modules: the sum of MACs is too low",
        "sin x 1: not a convolution or fully connected layer",
    )


def test_shared_parameters_count_once_and_their_macs_twice() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    counted = count(spec_of(1, 4), net)
    assert (counted.parameters, counted.macs) == (16 + 4 + 4, 32)


def test_the_net_comes_back_as_it_was() -> None:
    spec = mobilenet_v2_spec(small=True)
    net = spec.build().train()
    net.get_submodule("features.0").eval()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    count(spec, net)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_hooks_are_removed_when_the_net_fails() -> None:
    net = nn.Sequential(nn.Linear(4, 2)).train()
    with pytest.raises(RuntimeError):
        count(spec_of(1, 5), net)
    assert net.training
    assert not net[0]._forward_hooks
    assert not net[0]._forward_pre_hooks
