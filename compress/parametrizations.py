"""How an encoding holds a weight while it trains: torch parametrizations, one a kind.

Each gives from the free ("original") weight what acts in the net. What may change between epochs
(masks, indices) are buffers, so that a training's own state_dict keeps them.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.encoding import Encoded, Masked
from compress.fake_quant import fake_quantized, step_of
from compress.network import FloatArray


class MaskedWeight(nn.Module):
    """weight * mask: pruned weights stay zero and get no gradient."""

    mask: torch.Tensor

    def __init__(self, encoding: Masked) -> None:
        super().__init__()
        self.register_buffer("mask", torch.from_numpy(encoding.mask.copy()))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask

    def prune(self, gone: NDArray[np.bool_]) -> None:
        """Zero the weights where `gone`, for good."""
        self.mask.logical_and_(~torch.from_numpy(gone).to(self.mask.device))


class SharedWeight(nn.Module):
    """(codebook * keep)[indices] * scale: the codebook trains, code 0 stays 0.

    It trains in the weights' own units, or else a learning rate for weights would not move the
    integers of a grid by half a step, ever. On an integer grid the codebook is rounded into
    [-127, 127] on the way forward and its gradient passes straight through.
    """

    indices: torch.Tensor
    scale: torch.Tensor
    keep: torch.Tensor

    def __init__(self, encoding: Encoded) -> None:
        super().__init__()
        self.on_integers = encoding.on_integers
        self.unit = _unit(encoding.scale)
        codebook = encoding.codebook.astype(np.float32) * np.float32(self.unit)
        self.codebook = nn.Parameter(torch.from_numpy(codebook))
        self.register_buffer("indices", torch.from_numpy(encoding.indices.astype(np.int64)))
        self.register_buffer("scale", torch.from_numpy(encoding.broadcast_scale().copy()))
        keep = np.ones(codebook.size, np.float32)
        keep[0] = 0
        self.register_buffer("keep", torch.from_numpy(keep))

    def entries(self) -> torch.Tensor:
        """The codebook as it acts."""
        values = self.codebook * self.keep / self.unit
        if self.on_integers:
            rounded = values.round().clamp(-127, 127)
            values = _straight_through(rounded, values)
        return values

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        del weight  # the decoded values come from the codebook alone
        return _look_up(self.entries(), self.indices) * self.scale + 0.0

    def prune(self, gone: NDArray[np.bool_]) -> None:
        """Give code 0 to the weights where `gone`, for good."""
        self.indices.masked_fill_(torch.from_numpy(gone).to(self.indices.device), 0)


class RefreshedWeight(SharedWeight):
    """As SharedWeight, and each weight keeps a value of its own, by which it may change cluster.

    The value gets the weight's gradient, straight through the codebook. Code 0 stays with the
    weights that have it: pruned weights do not come back and others do not join them.
    """

    refreshes: torch.Tensor

    def __init__(self, encoding: Encoded) -> None:
        super().__init__(encoding)
        self.register_buffer("refreshes", torch.zeros((), dtype=torch.int64))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        decoded = super().forward(weight)
        return decoded + (weight - weight.detach()) * (self.indices != 0)

    def refresh(self, weight: torch.Tensor) -> None:
        """Give each weight the code whose value is nearest its own; of two the smaller value's."""
        with torch.no_grad():
            self.refreshes += 1
            values, order = self.entries()[1:].sort()
            if values.numel() == 0:
                return
            scale = torch.where(self.scale == 0, 1, self.scale)
            nearest = torch.bucketize(weight / scale, (values[1:] + values[:-1]) / 2)
            codes = order[nearest] + 1
            self.indices.copy_(torch.where(self.indices == 0, 0, codes))


class GridWeight(nn.Module):
    """Dense int8 or int4: each weight trains and is rounded to its channel's grid; zeros are kept.

    Used for the full grids, whose codebooks cannot move but whose indices can.
    """

    scale: torch.Tensor
    keep: torch.Tensor

    def __init__(self, encoding: Encoded) -> None:
        super().__init__()
        scale = np.where(encoding.broadcast_scale() == 0, 1, encoding.broadcast_scale())
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))
        self.register_buffer("keep", torch.from_numpy(~encoding.zeros()))
        self.top = encoding.codebook.size // 2 - 1

    def steps(self) -> torch.Tensor:
        """The scales that act, of a shape that multiplies the weight."""
        return self.scale

    def integers(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight / self.steps()).round().clamp(-self.top, self.top) * self.keep

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        exact = self.integers(weight) * self.scale + 0.0
        return _straight_through(exact, weight * self.keep)

    def prune(self, gone: NDArray[np.bool_]) -> None:
        """Zero the weights where `gone`, for good."""
        self.keep.logical_and_(~torch.from_numpy(gone).to(self.keep.device))

    def free(self, kept: NDArray[np.bool_]) -> None:
        """Let the weights where `kept` train, also those that are zero by rounding alone."""
        self.keep.copy_(torch.from_numpy(kept))


class LearntGridWeight(GridWeight):
    """As GridWeight, with scales that are learnt, too (see fake_quant)."""

    def __init__(self, encoding: Encoded) -> None:
        super().__init__(encoding)
        self.learnt = nn.Parameter(torch.zeros(encoding.scale.shape))

    def steps(self) -> torch.Tensor:
        return step_of(self.scale, self.learnt.reshape(self.scale.shape))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        learnt = self.learnt.reshape(self.scale.shape)
        features = weight.numel() // learnt.numel()
        ends = (-self.top, self.top)
        return fake_quantized(weight, self.scale, learnt, ends, features) * self.keep + 0.0


Bound = MaskedWeight | SharedWeight | GridWeight


class _LookUp(torch.autograd.Function):
    """codebook[indices], whose gradient is added up in the order of the indices.

    Indexing's own gradient is added by all threads at once, in no fixed order, or far slower.
    """

    @staticmethod
    def forward(ctx: Any, codebook: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(indices)
        ctx.codes = codebook.shape
        return codebook[indices]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,), (indices,) = grad_outputs, ctx.saved_tensors
        total = torch.zeros(ctx.codes, dtype=gradient.dtype, device=gradient.device)
        return total.index_add_(0, indices.reshape(-1), gradient.reshape(-1)), None


def _look_up(codebook: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return cast("torch.Tensor", _LookUp.apply(codebook, indices))  # pyright: ignore[reportUnknownMemberType]


def _straight_through(exact: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """Exactly the values of `exact`, with the gradient of `latent`."""
    return exact.detach() + (latent - latent.detach())


def _unit(scale: FloatArray) -> float:
    """The power of two next to the scale's root mean square: multiplying by it is exact."""
    square = float(np.mean(np.square(scale, dtype=np.float64)))
    return 2.0 ** round(np.log2(square) / 2) if square > 0 else 1.0
