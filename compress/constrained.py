"""constrained(candidate): the user's ordinary training loop, inside the candidate's encodings.

Encodings become temporary torch parametrizations and are removed on exit: a mask (Han et al.
2015); `centroids[indices]`, whose gradient is the per-cluster sum of Deep Compression (Han et al.
2016, section 3.3, eq. 3); rounding to an integer grid with a straight-through gradient. A net with
grids for its activations computes on them while it trains (see simulated.py). Names and order of
the parameters never change, and no parametrization survives.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.candidate import Candidate
from compress.encoding import Encoded, Encoding, Masked, full_grid_bits
from compress.errors import TaskError
from compress.network import load_state
from compress.parametrizations import (
    Bound,
    GridWeight,
    LearntGridWeight,
    MaskedWeight,
    SharedWeight,
)
from compress.simulated import SimulatedForward


@dataclass
class Constrained:
    """`model` to train in place; `result` is the new candidate once the block has ended.

    `parts`: what holds each encoded parameter, by its name. `simulation`: what computes on the
    grids of the activations; None where there are none.
    """

    model: nn.Module
    parts: Mapping[str, Bound] = field(default_factory=dict[str, Bound], repr=False)
    simulation: SimulatedForward | None = field(default=None, repr=False)
    results: list[Candidate] = field(default_factory=list[Candidate], repr=False)

    @property
    def result(self) -> Candidate:
        assert self.results, "the constrained block has not ended"
        return self.results[0]

    def original(self, name: str) -> torch.Tensor:
        """The free weight from which `parts[name]` makes the one that acts."""
        return _original(self.model, name)

    def begin_from(self, reference: Candidate) -> None:
        """Let dense integer weights train from the float ones of `reference` that they round.

        Weights that are zero by rounding alone may leave it; those that an encoding of
        `reference` makes zero stay. A weight that was not rounded from there begins on its grid.
        """
        own = reference.network.parameters()
        for name, part in self.parts.items():
            if not isinstance(part, GridWeight):
                continue
            known, original = reference.encodings.get(name), self.original(name)
            part.free(np.full(own[name].shape, True) if known is None else ~known.zeros())
            with torch.no_grad():
                weight = torch.from_numpy(own[name].copy())
                near = (weight - original).abs() <= 0.501 * part.steps().abs()
                original.copy_(torch.where(near, weight, original))


def is_full_grid(encoding: Encoded) -> bool:
    """True for dense int8 and int4: the codebook is the whole grid and explains no sharing."""
    return full_grid_bits(encoding.codebook) is not None


def bound_by(encoding: Encoding) -> Bound:
    """What holds a parameter to `encoding`."""
    if isinstance(encoding, Masked):
        return MaskedWeight(encoding)
    return GridWeight(encoding) if is_full_grid(encoding) else SharedWeight(encoding)


def learnt_by(encoding: Encoding) -> Bound:
    """As `bound_by`, and the scales of dense integer weights are learnt."""
    if isinstance(encoding, Encoded) and is_full_grid(encoding):
        return LearntGridWeight(encoding)
    return bound_by(encoding)


@contextmanager
def constrained(
    candidate: Candidate,
    hold: Callable[[Encoding], Bound] | None = None,
    *,
    learn_steps: bool = False,
) -> Generator[Constrained]:
    """Give the net in train mode, its encoded parameters held to their encodings by `hold`.

    Tensors with a grid are rounded to it. With `learn_steps` the steps of these grids are
    parameters of the model (see SimulatedForward), and those of dense integer weights, too.

    >>> with constrained(candidate) as tuning:
    ...     train(tuning.model)
    >>> candidate = tuning.result
    """
    model = candidate.network.module().requires_grad_(True)
    simulation = None
    if candidate.activations:
        simulation = SimulatedForward(model, candidate, learn_steps=learn_steps)
    hold = hold or (learnt_by if learn_steps else bound_by)
    bound = {name: _bind(model, name, hold(e)) for name, e in sorted(candidate.encodings.items())}
    held = Constrained(model.train(), bound, simulation)
    yield held
    _check_bound(model, bound)
    model.cpu()  # a loop may have moved it to an accelerator
    grids = simulation.detach() if simulation is not None else {}
    encodings = {
        name: _read(candidate.encodings[name], part, _original(model, name))
        for name, part in bound.items()
    }
    state = {n: t.numpy() for n, t in model.state_dict().items() if "parametrizations." not in n}
    for name in bound:
        state[name] = _original(model, name).detach().numpy()
    # Into the net as it was: what the loop hung on the model stays there, and parameters keep
    # their order, by which optimizers number them.
    bare = candidate.network.module()
    load_state(bare, state, "the tuned net")
    # Of tied weights the first name alone.
    once = (*bare.named_parameters(), *bare.named_buffers())
    network = candidate.network.with_parameters(
        {name: state[name] for name, _ in once if name in state}
    )
    tuned = replace(candidate, network=network, activations=grids)
    held.results.append(tuned.with_values({}, encodings))


def _bind(model: nn.Module, name: str, part: Bound) -> Bound:
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
        if isinstance(part, MaskedWeight):
            return Masked(part.mask.numpy())
        assert isinstance(encoding, Encoded)
        if isinstance(part, SharedWeight):
            indices = part.indices.numpy().astype(encoding.indices.dtype)
            entries = part.entries().numpy().astype(encoding.codebook.dtype)
            return replace(encoding, indices=indices, codebook=entries)
        if isinstance(part, LearntGridWeight):
            encoding = replace(encoding, scale=part.steps().numpy().reshape(-1))
        integers = part.integers(original).numpy().astype(np.int8)
        # Codes are two's complement: bytes, of which a nibble takes the low four bits.
        codes = integers.view(np.uint8) & np.uint8(encoding.codebook.size - 1)
        return replace(encoding, indices=codes)
