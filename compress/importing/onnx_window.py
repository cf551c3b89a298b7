"""Windows that slide over a picture: kernel, stride and padding of convolutions and pools."""

from __future__ import annotations

from dataclasses import dataclass

from compress.errors import ModelError
from compress.importing.building import Value
from compress.importing.onnx_operator import Operator, pair

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """`before` and `after`: the padding of (top, left) and (bottom, right), in pixels."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    after: Pair

    @property
    def even(self) -> bool:
        """Whether both ends have the same padding, which is all that torch's operators know."""
        return self.before == self.after

    @property
    def pads(self) -> list[int]:
        """For torch's pad: left, right, top, bottom."""
        return [self.before[1], self.after[1], self.before[0], self.after[0]]

    def steps(self, size: Pair, ceil: bool) -> Pair:
        """How often the window fits, (height, width)."""
        found: list[int] = []
        for i in (0, 1):
            span = size[i] + self.before[i] + self.after[i] - self._reach(i)
            found.append((-(-span // self.stride[i]) if ceil else span // self.stride[i]) + 1)
        return found[0], found[1]

    def _reach(self, axis: int) -> int:
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1


def window_of(operator: Operator, source: Value, kernel: tuple[int, ...]) -> Window:
    """The window of a node on pictures (N, C, H, W); `auto_pad` is worked out."""
    if len(source.shape) != 4:
        raise ModelError(f"its input has shape {source.shape}; only pictures (4 axes) can be taken")
    sides = pair(kernel, "kernel sides")
    stride = pair(operator.wholes("strides", (1, 1)), "strides")
    dilation = pair(operator.wholes("dilations", (1, 1)), "dilations")
    if min(*sides, *stride, *dilation) < 1:
        raise ModelError(f"it has kernel {sides}, strides {stride} and dilations {dilation}")
    mode = operator.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        bare = Window(sides, stride, dilation, (0, 0), (0, 0))
        before, after = _same(bare, source, upper=mode == "SAME_UPPER")
    else:
        pads = operator.wholes("pads", (0, 0, 0, 0)) if mode == "NOTSET" else (0, 0, 0, 0)
        before, after = pair(pads[:2], "pads"), pair(pads[2:], "pads")
    return Window(sides, stride, dilation, before, after)


def _same(bare: Window, source: Value, *, upper: bool) -> tuple[Pair, Pair]:
    """Padding by which ceil(size / stride) windows fit; the odd pixel goes to the named end."""
    ends: list[Pair] = []
    for i in (0, 1):
        size, stride = source.shape[2 + i], bare.stride[i]
        reach = bare.dilation[i] * (bare.kernel[i] - 1) + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        small, large = total // 2, total - total // 2
        ends.append((small, large) if upper else (large, small))
    return (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
