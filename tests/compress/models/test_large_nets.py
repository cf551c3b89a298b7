"""AlexNet and VGG-16 by their structure alone: on the meta device, without 800 MB of weights."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from compress.errors import SpecError
from compress.models.alexnet import alexnet, alexnet_spec
from compress.models.vgg import vgg16, vgg16_spec
from compress.spec import ModelSpec

# name: specification, parameters, MACs, SHA-256 of the sorted lines "name shape" of the state_dict
# of torchvision 0.28.0.
NETS = {
    "alexnet": (
        alexnet_spec(),
        61_100_840,
        714_188_480,
        "e7f297254a8a6091cb95392a42420146ce29d2e99f2caf9fe97c6549c042a2c9",
    ),
    "vgg16": (
        vgg16_spec(),
        138_357_544,
        15_470_264_320,
        "ecaf0e7c26c17e125af5afaf7e93a347ac6f5773d6061cc11905ab2052a30b3b",
    ),
}


def empty(spec: ModelSpec) -> torch.nn.Module:
    with torch.device("meta"):
        return spec.build()


@pytest.mark.parametrize("name", NETS)
def test_parameters_and_macs_are_pinned(name: str) -> None:
    spec, parameters, macs, _ = NETS[name]
    net = empty(spec)
    assert sum(p.numel() for p in net.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        logits = net(torch.zeros(spec.input_shape, device="meta"))
    assert counter.get_total_flops() == 2 * macs
    assert logits.shape == (1, 1000)


@pytest.mark.parametrize("name", NETS)
def test_names_and_shapes_are_those_of_torchvision(name: str) -> None:
    spec, _, _, digest = NETS[name]
    tensors = sorted(empty(spec).state_dict().items())
    lines = "".join(f"{key} {','.join(map(str, value.shape))}\n" for key, value in tensors)
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


@pytest.mark.parametrize("name", NETS)
def test_export_is_strict_and_made_of_plain_operators(name: str) -> None:
    spec = NETS[name][0]
    images = torch.zeros(spec.input_shape, device="meta")
    program = torch.export.export(empty(spec), (images,), strict=True)
    operators = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    plain = {"conv2d", "relu", "max_pool2d", "flatten", "dropout", "linear"}
    assert {operator.split(".")[1] for operator in operators} <= plain


@pytest.mark.parametrize("name", NETS)
def test_specification_survives_json(name: str) -> None:
    spec = NETS[name][0]
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("builder", [alexnet, vgg16])
def test_impossible_numbers_of_classes_are_refused(builder: object) -> None:
    with pytest.raises(SpecError, match=r"classes=0 is not a whole number from 1 to 100,000"):
        builder(classes=0)  # type: ignore[operator]
