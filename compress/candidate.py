"""Candidate: a net under compression as one immutable value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.digest import digest_of
from compress.edit import Edit, edit_to_dict, rebuild
from compress.encoding import Encoding
from compress.graph import TensorId
from compress.laws import check_laws
from compress.network import TorchNetwork, load_state
from compress.spec import ModelSpec

_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class ActivationQuant:
    """The integer grid of one activation tensor: real = scale * (q - zero_point), q in 0..255.

    The unsigned convention; a signed file holds q - 128 and zero_point - 128, the same grid.
    """

    scale: float
    zero_point: int
    bits: int = 8
    observer: str = "minmax"


@dataclass(frozen=True)
class Skipped:
    """A layer that a stage left alone, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Step:
    """What one stage did: kept in the candidate's history and in the report."""

    stage: str
    settings: str
    seconds: float
    touched: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    parameters: int = 0
    nonzeros: int = 0
    digest: str = ""
    checkpoint: str = ""
    trained_on: str = ""
    """The accelerator, where the stage ended its training on one."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A net and what explains it; stages give a new one, nobody changes one.

    encodings are keyed by parameter name, activations by tensor; `ties` are groups of tensors
    that must share a grid; `float_nodes` are layers kept in float by choice.
    """

    spec: ModelSpec
    network: TorchNetwork
    edits: tuple[Edit, ...] = ()
    encodings: Mapping[str, Encoding] = field(default_factory=dict[str, Encoding])
    activations: Mapping[TensorId, ActivationQuant] = field(
        default_factory=dict[TensorId, ActivationQuant]
    )
    ties: tuple[frozenset[TensorId], ...] = ()
    float_nodes: tuple[str, ...] = ()
    history: tuple[Step, ...] = ()

    @staticmethod
    def load(
        spec: ModelSpec, weights: str | Path | nn.Module | Mapping[str, NDArray[Any]]
    ) -> Candidate:
        """A dense candidate from a .safetensors or .pt file, a module, or named arrays.

        A .pt file is read as plain tensors only (torch's weights_only). Raises CheckpointError
        naming the first tensor that differs, with both shapes.
        """
        from compress.checkpoint import plain_arrays, read_weights

        model = rebuild(spec, ())
        if isinstance(weights, nn.Module):
            state = plain_arrays(weights.state_dict(), "the given module")
            load_state(model, state, "the given module")
        elif isinstance(weights, (str, Path)):
            load_state(model, _counted(model, read_weights(Path(weights))), str(weights))
        else:
            load_state(model, _counted(model, weights), "the given mapping")
        return Candidate(spec, TorchNetwork(model, spec.input_shape, own=True))

    @staticmethod
    def untrained(spec: ModelSpec, seed: int) -> Candidate:
        """The builder's own random initialisation, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = spec.build()
        return Candidate(spec, TorchNetwork(model, spec.input_shape))

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The candidate's own outputs: simulated integers where activations are quantized."""
        if not self.activations:
            return self.network.predict(batch)
        from compress.simulate import simulate

        return simulate(self).predict(batch)

    def with_values(
        self, parameters: Mapping[str, NDArray[np.float32]], encodings: Mapping[str, Encoding]
    ) -> Candidate:
        """Replace parameters and set encodings; encoded parameters are projected by them."""
        merged = {**self.encodings, **encodings}
        own = self.network.parameters()
        values: dict[str, NDArray[np.float32]] = {}
        for name in {*parameters, *encodings}:
            value = parameters[name] if name in parameters else own[name]
            # Projecting gives new arrays; the caller's own must not be taken over.
            values[name] = merged[name].project(value) if name in merged else np.array(value)
        network = self.network.with_parameters(values, own=True)
        return replace(self, network=network, encodings=merged)

    def with_history(self, history: tuple[Step, ...]) -> Candidate:
        """The same net with another history, which its digest does not cover."""
        other = replace(self, history=history)
        if "_digest" in self.__dict__:
            other.__dict__["_digest"] = self._digest
        return other

    def check(self) -> None:
        """The laws, after every stage. Raises CheckpointError or EncodingError, one line each."""
        check_laws(self)

    def digest(self) -> str:
        """SHA-256 over tensors, spec, edits, encodings and grids; ties a report to its files."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        about = {
            "spec": json.loads(self.spec.to_json()),
            "edits": [edit_to_dict(edit) for edit in self.edits],
            "activations": {str(tensor): asdict(grid) for tensor, grid in self.activations.items()},
            "ties": [sorted(map(str, tie)) for tie in self.ties],
            "float_nodes": list(self.float_nodes),
        }
        state = self.network.state()
        return digest_of(about, ((n, array, self.encodings.get(n)) for n, array in state.items()))


def _counted(model: nn.Module, state: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """`state` with batch norm's batch counters, which files of early PyTorch do not have.

    They serve only a momentum of None, so that torch's own loading takes 0 for them, too.
    """
    counters = {n: t.numpy() for n, t in model.state_dict().items() if n.endswith(_COUNTER)}
    return {**counters, **state}
