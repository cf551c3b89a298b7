"""Every family of nets through torch's two exporters and back: the same numbers come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compress.importing.onnx_file import read_onnx
from compress.importing.onnx_net import net_of
from compress.models.lenet import lenet5_spec
from compress.models.mobilenet_v1 import mobilenet_v1_spec
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.mobilenet_v3 import mobilenet_v3_small_spec
from compress.models.resnet_cifar import resnet20_spec
from compress.models.shufflenet_v1 import shufflenet_v1_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec
from tests.foreign import dynamo, legacy, lively, pictures
from tests.nets import digits_branch_spec, digits_residual_spec

FAMILIES = {
    "lenet5": lenet5_spec(),
    "mobilenet_v1": mobilenet_v1_spec(width=0.25, small=True),
    "mobilenet_v2": mobilenet_v2_spec(width=0.5, small=True),
    "mobilenet_v3": mobilenet_v3_small_spec(width=0.5, small=True),
    "resnet20": resnet20_spec(),
    "shufflenet_v1": shufflenet_v1_spec(width=0.5, small=True),
    "shufflenet_v2": shufflenet_v2_spec(width=0.5, small=True),
    "squeezenet": squeezenet1_1_spec(small=True),
}


def relative_error(net: nn.Module, other: nn.Module, shape: tuple[int, ...], count: int) -> float:
    batch = torch.from_numpy(pictures(shape, count))
    with torch.no_grad():
        expected, given = net(batch), other(batch)
    assert expected.shape == given.shape
    return float((expected - given).abs().max() / expected.abs().max())


def check(module: nn.Module, spec: ModelSpec, path: Path) -> nn.Module:
    net = net_of(read_onnx(path), path)
    for count in (1, 3):
        assert relative_error(module, net, spec.input_shape, count) < 1e-5
    kinds = {type(part) for part in net.modules() if any(True for _ in part.parameters(False))}
    assert kinds <= {nn.Conv2d, nn.Linear, nn.BatchNorm2d}
    return net


@pytest.mark.parametrize("family", FAMILIES)
def test_legacy_exporter_for_one_picture(family: str, tmp_path: Path) -> None:
    """The file has its batch of 1 in its reshapes; the import takes any."""
    spec = FAMILIES[family]
    module = lively(spec.build())
    path = legacy(module, spec.input_shape, tmp_path / "net.onnx", opset_version=13)
    net = check(module, spec, path)
    theirs = {n for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    ours = {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert ours == theirs


@pytest.mark.parametrize("family", ["mobilenet_v3", "shufflenet_v1", "shufflenet_v2"])
@pytest.mark.parametrize("opset", [11, 17])
def test_legacy_exporter_for_any_batch(family: str, opset: int, tmp_path: Path) -> None:
    """Shapes are computed in the file, by Shape, Gather, Concat and Cast."""
    spec = FAMILIES[family]
    module = lively(spec.build())
    axes = {"input": {0: "batch"}, "output": {0: "batch"}}
    path = legacy(
        module,
        (2, *spec.input_shape[1:]),
        tmp_path / "net.onnx",
        opset_version=opset,
        dynamic_axes=axes,
        do_constant_folding=False,
    )
    check(module, spec, path)


@pytest.mark.parametrize("family", ["mobilenet_v2", "resnet20", "shufflenet_v2"])
def test_batch_norm_that_was_not_folded(family: str, tmp_path: Path) -> None:
    spec = FAMILIES[family]
    module = lively(spec.build())
    kept = torch.onnx.TrainingMode.PRESERVE
    path = legacy(module, spec.input_shape, tmp_path / "net.onnx", opset_version=13, training=kept)
    net = check(module, spec, path)
    theirs = {n: t.shape for n, t in module.state_dict().items()}
    assert {n: t.shape for n, t in net.state_dict().items()} == theirs


@pytest.mark.parametrize(
    "spec", [digits_residual_spec(), digits_branch_spec()], ids=lambda s: s.name
)
def test_newer_exporter(spec: ModelSpec, tmp_path: Path) -> None:
    """It takes seconds a net, so that small ones with the same operators stand for the families."""
    module = lively(spec.build())
    check(module, spec, dynamo(module, spec.input_shape, tmp_path / "net.onnx"))


def test_a_file_for_four_pictures(tmp_path: Path) -> None:
    spec = FAMILIES["shufflenet_v2"]
    module = lively(spec.build())
    path = legacy(module, (4, *spec.input_shape[1:]), tmp_path / "net.onnx", opset_version=13)
    check(module, spec, path)


def test_h_swish_is_found_again_where_the_opset_lacks_it(tmp_path: Path) -> None:
    """Opset 11 has no HardSwish; as products and clips the int8 files would lose their speed."""
    spec = FAMILIES["mobilenet_v3"]
    module = lively(spec.build())
    path = legacy(module, spec.input_shape, tmp_path / "net.onnx", opset_version=11)
    assert "HardSwish" not in {node.op_type for node in onnx.load(path).graph.node}
    net = net_of(read_onnx(path), path)
    functions = [str(getattr(n.target, "__name__", "")) for n in net.graph.nodes]
    wanted = [type(m) for m in module.modules()]
    assert functions.count("hardswish") == wanted.count(nn.Hardswish)
    assert functions.count("hardsigmoid") == wanted.count(nn.Hardsigmoid)
    assert np.isfinite(relative_error(module, net, spec.input_shape, 1))
