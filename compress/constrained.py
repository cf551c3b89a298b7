"""constrained(candidate): the user's ordinary training loop, inside the candidate's encodings.

Encodings become temporary torch parametrizations and are removed on exit: a mask (Han et al.
2015); `centroids[indices]`, whose gradient is the per-cluster sum of Deep Compression (Han et al.
2016, section 3.3, eq. 3); rounding to an integer grid with a straight-through gradient. Names and
order of the parameters never change, and no parametrization survives.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.candidate import Candidate
from compress.encoding import Encoded, Encoding, Masked
from compress.errors import TaskError
from compress.network import FloatArray, load_state


class MaskedWeight(nn.Module):
    """weight * mask: pruned weights stay zero and get no gradient."""

    mask: torch.Tensor

    def __init__(self, encoding: Masked) -> None:
        super().__init__()
        self.register_buffer("mask", torch.from_numpy(encoding.mask.copy()))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


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
        return self.entries()[self.indices] * self.scale + 0.0


def _unit(scale: FloatArray) -> float:
    """The power of two next to the scale's root mean square: multiplying by it is exact."""
    square = float(np.mean(np.square(scale, dtype=np.float64)))
    return 2.0 ** round(np.log2(square) / 2) if square > 0 else 1.0


class GridWeight(nn.Module):
    """Dense int8: each weight trains and is rounded to its channel's grid; zeros are kept.

    Used for the full int8 grid, whose codebook cannot move but whose indices can.
    """

    scale: torch.Tensor
    keep: torch.Tensor

    def __init__(self, encoding: Encoded) -> None:
        super().__init__()
        scale = np.where(encoding.broadcast_scale() == 0, 1, encoding.broadcast_scale())
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))
        self.register_buffer("keep", torch.from_numpy(~encoding.zeros()))

    def integers(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight / self.scale).round().clamp(-127, 127) * self.keep

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        exact = self.integers(weight) * self.scale + 0.0
        return _straight_through(exact, weight * self.keep)


def _straight_through(exact: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """Exactly the values of `exact`, with the gradient of `latent`."""
    return exact.detach() + (latent - latent.detach())


@dataclass
class Constrained:
    """`model` to train in place; `result` is the new candidate once the block has ended."""

    model: nn.Module
    results: list[Candidate] = field(default_factory=list[Candidate], repr=False)

    @property
    def result(self) -> Candidate:
        assert self.results, "the constrained block has not ended"
        return self.results[0]


def is_full_grid(encoding: Encoded) -> bool:
    """True for dense int8: the codebook is the whole grid and explains no sharing."""
    return encoding.on_integers and encoding.codebook.size == 256


@contextmanager
def constrained(candidate: Candidate) -> Generator[Constrained]:
    """Give the net in train mode, its encoded parameters held to their encodings.

    >>> with constrained(candidate) as tuning:
    ...     train(tuning.model)
    >>> candidate = tuning.result
    """
    model = candidate.network.module().requires_grad_(True)
    bound = {name: _bind(model, name, e) for name, e in sorted(candidate.encodings.items())}
    held = Constrained(model.train())
    yield held
    _check_bound(model, bound)
    model.cpu()  # a loop may have moved it to an accelerator
    encodings = {
        name: _read(candidate.encodings[name], part, _original(model, name))
        for name, part in bound.items()
    }
    state = {n: t.numpy() for n, t in model.state_dict().items() if "parametrizations." not in n}
    for name in bound:
        state[name] = _original(model, name).detach().numpy()
    # Into the net as it was: what the loop hung on the model stays there, and parameters keep
    # their order, by which optimizers number them.
    load_state(candidate.network.module(), state, "the tuned net")
    tuned = replace(candidate, network=candidate.network.with_parameters(state))
    held.results.append(tuned.with_values({}, encodings))


Bound = MaskedWeight | SharedWeight | GridWeight


def _bind(model: nn.Module, name: str, encoding: Encoding) -> Bound:
    part: Bound
    if isinstance(encoding, Masked):
        part = MaskedWeight(encoding)
    elif is_full_grid(encoding):
        part = GridWeight(encoding)
    else:
        part = SharedWeight(encoding)
    path, _, attribute = name.rpartition(".")
    parametrize.register_parametrization(model.get_submodule(path), attribute, part, unsafe=True)
    return part


def _check_bound(model: nn.Module, bound: Mapping[str, Bound]) -> None:
    """Training may change values; TaskError where it took a constrained module out."""
    for name, part in bound.items():
        path, _, attribute = name.rpartition(".")
        held: object = None
        with suppress(AttributeError):
            holder = cast("nn.ModuleDict", model.get_submodule(path).parametrizations)
            held = cast("nn.ModuleList", holder[attribute])[0]
        if held is not part:
            raise TaskError(
                f"the training loop replaced {path or 'the net'!r}, whose {attribute} is held to "
                f"its encoding; train the modules that are there and replace none"
            )


def _original(model: nn.Module, name: str) -> torch.Tensor:
    path, _, attribute = name.rpartition(".")
    holder = cast("nn.ModuleDict", model.get_submodule(path).parametrizations)
    return cast("torch.Tensor", holder[attribute].original)


def _read(encoding: Encoding, part: Bound, original: torch.Tensor) -> Encoding:
    """The encoding as training left it."""
    with torch.no_grad():
        if isinstance(part, SharedWeight) and isinstance(encoding, Encoded):
            entries = part.entries().numpy().astype(encoding.codebook.dtype)
            return replace(encoding, codebook=entries)
        if isinstance(part, GridWeight) and isinstance(encoding, Encoded):
            integers = part.integers(original).numpy().astype(np.int8)
            return replace(encoding, indices=integers.view(np.uint8))
    return encoding
