"""Nets of a user's own code: one for each way in which channels hang together."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from compress.candidate import Candidate
from compress.spec import ModelSpec, TensorSpec


class Net(nn.Module):
    """stem, `middle`, and a head that reads `outside` channels; 8 x 8 pixels, 3 channels."""

    def __init__(self, outside: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.head = nn.Conv2d(outside, 8, 1)
        self.fc = nn.Linear(8, 5)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.head(self.middle(F.relu(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class Gated(Net):
    """Half of a convolution gates the other half."""

    def __init__(self) -> None:
        super().__init__(6)
        self.conv = nn.Conv2d(12, 12, 3)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return a * torch.sigmoid(b)


class Squeezed(Net):
    """A gate from the means by linear layers, reshaped to (N, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__(12)
        self.down, self.up = nn.Linear(12, 4), nn.Linear(4, 12)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.hardsigmoid(self.up(F.silu(self.down(x.mean((2, 3))))))
        return F.hardswish(x) * gate[:, :, None, None]


class Scaled(Net):
    """A parameter of the net's own with one value a channel, and one for all."""

    def __init__(self) -> None:
        super().__init__(12)
        self.scale = nn.Parameter(torch.randn(12, 1, 1))
        self.gain = nn.Parameter(torch.tensor(1.5))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale * self.gain


class Twice(Net):
    """One convolution is used twice: its inputs and its outputs are the same channels."""

    def __init__(self) -> None:
        super().__init__(12)
        self.conv = nn.Conv2d(12, 12, 3, padding=1)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.relu(self.conv(x)))


class Fans(Net):
    """A depthwise convolution with two filters a channel, a concatenation with the input of it."""

    def __init__(self) -> None:
        super().__init__(36)
        self.fan = nn.Conv2d(12, 24, 3, padding=1, groups=12)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((F.leaky_relu(self.fan(x)), x), 1)


class Pixels(Net):
    """Four channels become one of twice the height and width."""

    def __init__(self) -> None:
        super().__init__(3)
        self.shuffle = nn.PixelShuffle(2)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(x)


class Attended(Net):
    """One channel gates all pixels."""

    def __init__(self) -> None:
        super().__init__(12)
        self.mask = nn.Conv2d(12, 1, 1)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.mask(x))


class Padded(Net):
    """A shortcut of option A, its width an attribute."""

    def __init__(self) -> None:
        super().__init__(20)
        self.conv = nn.Conv2d(12, 20, 3, padding=1)
        self.extra = 4

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + F.pad(x, (0, 0, 0, 0, self.extra, self.extra))


class PaddedByHand(Padded):
    """The same with the width in the code: what is padded must stay, what is not can go."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = -1

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + F.pad(x, (0, 0, 0, 0, 4, 4))


class Buffered(Net):
    """Buffers with one value a channel, one of them double, and a cast."""

    def __init__(self) -> None:
        super().__init__(12)
        self.register_buffer("gain", torch.linspace(1, 2, 12).reshape(1, 12, 1, 1))
        self.register_buffer("shift", torch.full((12, 1, 1), 0.5, dtype=torch.float64))

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.gain + self.shift).float()


class Folded(Net):
    """Halves of the picture are pictures of their own for a while: those channels must stay."""

    def __init__(self) -> None:
        super().__init__(12)
        self.filters = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.each = nn.Conv2d(12, 6, 1)
        self.wide = nn.Conv2d(6, 12, 1)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        count = len(x)
        x = x.reshape(count, 12, 2, 4, 8).transpose(1, 2).reshape(2 * count, 12, 4, 8)
        halves = F.relu(self.each(x)).reshape(count, 2, 6, 4, 8)
        return F.relu(self.wide(halves.mean(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.filters(x))


class Baked(Net):
    """A size in the code: what the convolution gives must stay."""

    def __init__(self) -> None:
        super().__init__(12)
        self.conv = nn.Conv2d(12, 6, 3, padding=1)
        self.wide = nn.Linear(6 * 64, 12)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(self.conv(x).view(-1, 6 * 64))[:, :, None, None]


class Soft(Net):
    """A softmax over the channels."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, 1)


class Tied(Net):
    """Two layers share a weight."""

    def __init__(self) -> None:
        super().__init__(12)
        self.one, self.two = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1)
        self.two.weight = self.one.weight

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(F.relu(self.one(x)))


class Counting(Net):
    """Divides by the number of channels, which following cannot see."""

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.shape[1]


def build(name: str) -> nn.Module:
    kinds: dict[str, Callable[[], nn.Module]] = {
        **{kind.__name__: kind for kind in (Gated, Squeezed, Scaled, Twice, Fans, Pixels)},
        **{kind.__name__: kind for kind in (Attended, Padded, PaddedByHand, Baked, Tied, Folded)},
        "Buffered": Buffered,
        "Soft": lambda: Soft(12),
        "Counting": lambda: Counting(12),
    }
    return kinds[name]()


def own_net(name: str) -> Candidate:
    shape = TensorSpec("input", (1, 3, 8, 8))
    return Candidate.untrained(ModelSpec("tests.cut_nets:build", {"name": name}, (shape,)), 0)
