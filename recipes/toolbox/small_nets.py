"""The small nets for CIFAR-10 of train_cifar10, and the narrower nets of their families."""

from __future__ import annotations

from typing import NamedTuple

from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec


class SmallNet(NamedTuple):
    """A net as reports call it, and its specification."""

    title: str
    spec: ModelSpec


_FAMILIES = {
    "squeezenet": ("SqueezeNet 1.1 small", squeezenet1_1_spec, (0.75, 0.5)),
    "mobilenet_v2": ("MobileNetV2 small", mobilenet_v2_spec, (0.75, 0.5)),
    # Its paper has no width between 0.5 and 1.
    "shufflenet_v2": ("ShuffleNetV2 small", shufflenet_v2_spec, (0.5,)),
}
FULL = {net: SmallNet(title, of(small=True)) for net, (title, of, _) in _FAMILIES.items()}
NARROWER = {
    net: {
        f"{net}-{width}": SmallNet(f"{title} x {width}", of(small=True, width=width))
        for width in widths
    }
    for net, (title, of, widths) in _FAMILIES.items()
}
"""By the net of the full width: its family's narrower nets, the widest first."""
