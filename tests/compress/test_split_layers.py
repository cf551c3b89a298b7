"""The layers of every split: what they compute is a convolution of the same geometry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.split_layers import SPLITS, fits, full_rank, split_layer

sides = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(SPLITS),
    sides,
    sides,
    sides,
    st.one_of(sides, st.sampled_from(["same", "valid"])),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)
def test_the_split_of_a_separable_kernel_is_the_layer(
    split: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int] | str,
    mode: str,
) -> None:
    """Weights that are outer products: factors of rank 1 are then known without arithmetic."""
    torch.manual_seed(0)
    stride = (1, 1) if padding == "same" else stride
    layer = nn.Conv2d(
        2, 3, kernel, stride, padding, dilation, bias=True, padding_mode=mode, dtype=torch.float64
    )
    if not full_rank(layer, split)[0]:
        return
    outward, down, across, inward = (
        torch.randn(n, dtype=torch.float64) for n in (3, kernel[0], kernel[1], 2)
    )
    weights = {
        "channel": [torch.einsum("i,y,x->iyx", inward, down, across)[None], outward],
        "spatial": [
            torch.einsum("i,y->iy", inward, down)[None, :, :, None],
            torch.einsum("o,x->ox", outward, across)[:, None, None],
        ],
        "tucker": [inward, torch.einsum("y,x->yx", down, across)[None, None], outward],
    }[split]
    thin = split_layer(layer, split, (1, 1 if split == "tucker" else 0), True).double()
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("o,i,y,x->oiyx", outward, inward, down, across))
        for part, weight in zip(thin, weights, strict=True):
            part.weight.copy_(weight.reshape(part.weight.shape))
        thin[-1].bias.copy_(layer.bias)
        picture = torch.randn(2, 2, 9, 8, dtype=torch.float64)
        torch.testing.assert_close(thin(picture), layer(picture))


@pytest.mark.parametrize(
    ("layer", "split", "wanted"),
    [
        (nn.Linear(6, 4), "channel", (4, 0)),
        (nn.Linear(6, 4), "spatial", (0, 0)),
        (nn.Conv2d(6, 4, 1), "channel", (4, 0)),
        (nn.Conv2d(6, 4, 1), "tucker", (0, 0)),
        (nn.Conv2d(2, 40, 3), "channel", (18, 0)),
        (nn.Conv2d(2, 40, 3), "spatial", (6, 0)),
        (nn.Conv2d(2, 40, 3), "tucker", (18, 2)),
        (nn.Conv2d(40, 2, 3), "tucker", (2, 18)),
        (nn.Conv2d(4, 4, 3, groups=2), "channel", (0, 0)),
        (nn.ReLU(), "channel", (0, 0)),
        (nn.Conv2d(4, 4, 3), "diagonal", (0, 0)),
    ],
)
def test_full_ranks(layer: nn.Module, split: str, wanted: tuple[int, int]) -> None:
    assert full_rank(layer, split) == wanted
    rank, rank_in = wanted
    assert fits(layer, split, rank, rank_in) is bool(rank)
    assert not fits(layer, split, rank + 1, rank_in)
    assert not fits(layer, split, rank, rank_in + 1)
    assert not fits(layer, split, 0, rank_in)
