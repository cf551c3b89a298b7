"""Width, groups and resolution give the operations that the papers' tables say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from compress.errors import SpecError
from compress.models.alexnet import alexnet_spec
from compress.models.mobilenet_v1 import mobilenet_v1_spec
from compress.models.mobilenet_v3 import mobilenet_v3_large_spec
from compress.models.presets import at_resolution
from compress.models.resnet_cifar import resnet20_spec
from compress.models.shufflenet_v1 import shufflenet_v1, shufflenet_v1_spec
from compress.models.squeezenet import squeezenet1_1, squeezenet1_1_spec
from compress.spec import ModelSpec


def macs(spec: ModelSpec) -> int:
    """torch's own count, without any arithmetic; independent of `compress.measure`."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        spec.build()(torch.zeros(spec.input_shape))
    return counter.get_total_flops() // 2


# Howard et al. 2017, tables 6 and 7: millions of multiply-adds, millions of parameters.
@pytest.mark.parametrize(
    ("width", "resolution", "millions", "parameters"),
    [
        (1.0, 224, 569, 4.2),
        (0.75, 224, 325, 2.6),
        (0.5, 224, 149, 1.3),
        (0.25, 224, 41, 0.5),
        (1.0, 192, 418, 4.2),
        (1.0, 160, 290, 4.2),
        (1.0, 128, 186, 4.2),
    ],
)
def test_mobilenet_v1_has_the_operations_of_the_papers_tables(
    width: float, resolution: int, millions: int, parameters: float
) -> None:
    spec = mobilenet_v1_spec(width=width, resolution=resolution)
    # The paper rounds some figures down, others to the nearest.
    assert millions - 0.5 < macs(spec) / 1e6 < millions + 1
    with torch.device("meta"):
        total = sum(p.numel() for p in spec.build().parameters())
    assert round(total / 1e6, 1) == parameters


# Zhang et al. 2017, table 1: the classifier is not counted there.
@pytest.mark.parametrize(("groups", "millions"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_shufflenet_v1_has_the_operations_of_the_papers_table_by_groups(
    groups: int, millions: int
) -> None:
    classes = 1000
    features = 4 * {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}[groups]
    counted = macs(shufflenet_v1_spec(groups=groups)) - features * classes
    assert abs(counted / 1e6 - millions) < 0.6


# Table 2 and section 4.1.1: ShuffleNet with 3 groups at all widths.
@pytest.mark.parametrize(
    ("width", "millions"), [(0.25, 13), (0.5, 38), (1.0, 137), (1.5, 292), (2.0, 524)]
)
def test_shufflenet_v1_has_the_operations_of_the_paper_by_width(
    width: float, millions: int
) -> None:
    assert abs(macs(shufflenet_v1_spec(width=width)) / 1e6 - millions) < 0.6


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("width", [0.25, 0.5, 1.5, 2])
def test_groups_stay_equal_at_every_width(groups: int, width: float) -> None:
    spec = shufflenet_v1_spec(groups=groups, width=width, small=True)
    with torch.device("meta"):
        assert spec.build()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("groups", [0, 5, 3.0, True, "3"])
def test_other_groups_are_refused(groups: object) -> None:
    with pytest.raises(SpecError, match=r"groups=.* 1, 2, 3, 4, 8 groups"):
        shufflenet_v1(groups=groups)  # type: ignore[arg-type]


def test_shuffle_hands_each_group_channels_of_all_groups() -> None:
    unit = shufflenet_v1(classes=10, groups=3).eval().get_submodule("stage2.1.branch")
    seen: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    unit.get_submodule("reduce").register_forward_hook(lambda *a: given.append(a[2]))
    unit.get_submodule("filter").register_forward_pre_hook(lambda *a: seen.append(a[1][0]))
    with torch.no_grad():
        unit(torch.rand(1, 240, 4, 4))
    order = np.arange(60).reshape(3, 20).T.ravel()
    assert torch.equal(seen[0], given[0][:, order])


def test_widening_unit_keeps_the_mean_of_its_input_before_the_new_channels() -> None:
    unit = shufflenet_v1(classes=10).eval().get_submodule("stage3.0")
    x = torch.rand(1, 240, 8, 8)
    with torch.no_grad():
        y = unit(x)
    assert y.shape == (1, 480, 4, 4)
    assert (y >= 0).all()
    torch.testing.assert_close(y[:, :240, 1, 1], x[:, :, 1:4, 1:4].mean((2, 3)))


def test_the_width_of_mobilenet_v3_scales_every_layer() -> None:
    """3,377,576 is what torchvision 0.28.0 has at width_mult=0.75."""
    with torch.device("meta"):
        net = mobilenet_v3_large_spec(width=0.75).build()
    assert sum(p.numel() for p in net.parameters()) == 3_377_576


def test_resolution_changes_resizing_and_crop_in_proportion() -> None:
    spec = mobilenet_v1_spec(resolution=160)
    assert spec.input_shape == (1, 3, 160, 160)
    assert (spec.preprocess.resize, spec.preprocess.crop) == (183, 160)
    assert mobilenet_v1_spec(resolution=224) == mobilenet_v1_spec()
    small = at_resolution(resnet20_spec(), 28)
    assert small.input_shape == (1, 3, 28, 28)
    assert small.preprocess == resnet20_spec().preprocess


@pytest.mark.parametrize("side", [0, -224, 1025, 224.0])
def test_impossible_resolutions_are_refused(side: object) -> None:
    with pytest.raises(SpecError, match=r"resolution=.* from 1 to 1,024"):
        at_resolution(alexnet_spec(), side)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0.1, 0.3, 0.35, 0.5, 0.75, 1.4])
@pytest.mark.parametrize("small", [False, True])
def test_every_width_of_squeezenet_fits_together(width: float, small: bool) -> None:
    spec = squeezenet1_1_spec(width=width, small=small)
    with torch.device("meta"):
        net = spec.build()
        assert net(torch.zeros(2, *spec.input_shape[1:])).shape == (2, len(spec.classes))
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(conv.out_channels % 4 == 0 for conv in convolutions[:-1])


def test_of_width_1_squeezenets_specification_is_what_it_was_without_widths() -> None:
    assert "width" not in squeezenet1_1_spec(small=True, width=1).kwargs
    assert squeezenet1_1_spec(width=1.0).build().state_dict().keys() == (
        squeezenet1_1_spec(width=0.5).build().state_dict().keys()
    )


@pytest.mark.parametrize("width", [0, -1, 4.5, float("nan"), "0.5"])
def test_impossible_widths_are_refused(width: object) -> None:
    with pytest.raises(SpecError, match=r"width=.* not a number above 0 and at most 4\.0"):
        squeezenet1_1(width=width)  # type: ignore[arg-type]
