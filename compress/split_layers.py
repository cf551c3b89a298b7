"""The thin layers that stand in for one: which, in which order, with whose stride and padding.

"channel": the layer itself with fewer outputs, then 1 x 1 to all outputs (linear: two linear ones);
X. Zhang et al. 2016, arXiv:1505.06798, section 3.
"spatial": k x 1, then 1 x k; Jaderberg et al. 2014, arXiv:1405.3866, section 2.1, scheme 2.
"tucker": 1 x 1 to fewer inputs, k x k, 1 x 1 to all outputs; Kim et al. 2016, arXiv:1511.06530,
section 3.1.
The bias is the last one's. Nothing stands between them, so padded zeros stay what they were.
"""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from torch import nn

Split = Literal["channel", "spatial", "tucker"]
SPLITS: tuple[Split, ...] = get_args(Split)


def full_rank(layer: nn.Module, split: str) -> tuple[int, int]:
    """(rank, rank_in) at which `split` of `layer` loses nothing; (0, 0) where it cannot be split.

    rank_in is 0 but for "tucker".
    """
    if split == "channel" and isinstance(layer, nn.Linear):
        return min(layer.out_features, layer.in_features), 0
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or split not in SPLITS:
        return 0, 0
    high, wide = _pair(layer.kernel_size)
    outputs, inputs = layer.out_channels, layer.in_channels
    if split == "channel":
        return min(outputs, inputs * high * wide), 0
    if high * wide == 1:
        return 0, 0
    if split == "spatial":
        return min(inputs * high, outputs * wide), 0
    rank_in = min(inputs, outputs * high * wide)
    return min(outputs, rank_in * high * wide), rank_in


def fits(layer: nn.Module, split: str, rank: int, rank_in: int) -> bool:
    """True where `layer` can be split so."""
    most, most_in = full_rank(layer, split)
    return 1 <= rank <= most and (1 <= rank_in <= most_in if most_in else rank_in == 0)


def split_layer(layer: nn.Module, split: str, ranks: tuple[int, int], bias: bool) -> nn.Sequential:
    """Empty layers in place of `layer`; ranks: (rank, rank_in). The arguments must fit."""
    rank, rank_in = ranks
    assert fits(layer, split, rank, rank_in), (split, ranks)
    if isinstance(layer, nn.Linear):
        return nn.Sequential(
            nn.Linear(layer.in_features, rank, bias=False),
            nn.Linear(rank, layer.out_features, bias=bias),
        )
    assert isinstance(layer, nn.Conv2d)
    last = nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
    if split == "channel":
        return nn.Sequential(_along(layer, (0, 1), layer.in_channels, rank), last)
    if split == "tucker":
        return nn.Sequential(
            nn.Conv2d(layer.in_channels, rank_in, 1, bias=False),
            _along(layer, (0, 1), rank_in, rank),
            last,
        )
    first = _along(layer, (0,), layer.in_channels, rank)
    return nn.Sequential(first, _along(layer, (1,), rank, layer.out_channels, bias))


def _along(
    layer: nn.Conv2d, axes: tuple[int, ...], inputs: int, outputs: int, bias: bool = False
) -> nn.Conv2d:
    """A convolution that does along `axes` (0 down, 1 across) what `layer` does, nothing else."""

    def own(setting: Any, neutral: int) -> tuple[int, int]:
        down, across = (v if axis in axes else neutral for axis, v in enumerate(_pair(setting)))
        return down, across

    padding = layer.padding if isinstance(layer.padding, str) else own(layer.padding, 0)
    return nn.Conv2d(
        inputs,
        outputs,
        own(layer.kernel_size, 1),
        stride=own(layer.stride, 1),
        padding=padding,
        dilation=own(layer.dilation, 1),
        bias=bias,
        padding_mode=layer.padding_mode,
    )


def _pair(setting: Any) -> tuple[int, int]:
    return cast("tuple[int, int]", tuple(setting))
