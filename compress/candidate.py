"""Candidate: a net under compression as one immutable value, and the laws it obeys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.edit import Edit, edit_to_dict, rebuild
from compress.encoding import Encoded, Encoding, Masked
from compress.errors import CheckpointError, EncodingError
from compress.graph import TensorId
from compress.network import TorchNetwork, load_state
from compress.spec import ModelSpec


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
    def load(spec: ModelSpec, weights: Path | nn.Module | Mapping[str, NDArray[Any]]) -> Candidate:
        """A dense candidate from a .safetensors or .pt file, a module, or named arrays.

        A .pt file is read as plain tensors only (torch's weights_only). Raises CheckpointError
        naming the first tensor that differs, with both shapes.
        """
        from compress.checkpoint import read_weights

        model = spec.build()
        if isinstance(weights, nn.Module):
            state = {k: v.detach().cpu().numpy() for k, v in weights.state_dict().items()}
            load_state(model, state, "the given module")
        else:
            given = read_weights(weights) if isinstance(weights, Path) else dict(weights)
            source = str(weights) if isinstance(weights, Path) else "the given mapping"
            load_state(model, given, source)
        return Candidate(spec, TorchNetwork(model, spec.inputs[0].shape))

    @staticmethod
    def untrained(spec: ModelSpec, seed: int) -> Candidate:
        """The builder's own random initialisation, the same for the same seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = spec.build()
        return Candidate(spec, TorchNetwork(model, spec.inputs[0].shape))

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
        values = dict(parameters)
        for name in {*parameters, *encodings}:
            if name in merged:
                values[name] = merged[name].project(values.get(name, own[name]))
        return replace(self, network=self.network.with_parameters(values), encodings=merged)

    def check(self) -> None:
        """The laws, after every stage. Raises CheckpointError or EncodingError, one line each."""
        module = self.network.module()
        load_state(rebuild(self.spec, self.edits), self.network.state(), "the candidate")
        for name, part in module.named_modules():
            hooks = part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
            if hooks or hasattr(part, "parametrizations"):
                raise CheckpointError(f"module {name!r} still has hooks or parametrizations")
        parameters = self.network.parameters()
        for name, encoding in self.encodings.items():
            if name not in parameters:
                raise EncodingError(f"encoding for {name!r}, which the net does not have")
            _check_encoding(name, encoding, parameters[name])

    def digest(self) -> str:
        """SHA-256 over tensors, spec, edits, encodings and grids; ties a report to its files."""
        sha = hashlib.sha256(self.spec.to_json().encode())
        sha.update(json.dumps([edit_to_dict(e) for e in self.edits], sort_keys=True).encode())
        for name, array in self.network.state().items():
            _feed(sha, name, array)
        for name, encoding in sorted(self.encodings.items()):
            for part, array in sorted(encoding_arrays(encoding).items()):
                _feed(sha, f"{name}/{part}", array)
        for tensor, grid in sorted(self.activations.items()):
            sha.update(f"{tensor}={json.dumps(asdict(grid), sort_keys=True)}".encode())
        sha.update(json.dumps([sorted(map(str, tie)) for tie in self.ties]).encode())
        sha.update(json.dumps(list(self.float_nodes)).encode())
        return sha.hexdigest()


def encoding_arrays(encoding: Encoding) -> dict[str, NDArray[np.generic]]:
    """The arrays of an encoding by part; the channel axis as an int8 scalar, -1 for None."""
    if isinstance(encoding, Masked):
        return {"mask": encoding.mask}
    axis = np.array(-1 if encoding.axis is None else encoding.axis, np.int8)
    return {
        "indices": encoding.indices,
        "codebook": encoding.codebook,
        "scale": encoding.scale,
        "axis": axis,
    }


def _feed(sha: Any, name: str, array: NDArray[np.generic]) -> None:
    sha.update(f"{name}:{array.dtype}:{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).tobytes())


def _check_encoding(name: str, encoding: Encoding, parameter: NDArray[np.float32]) -> None:
    if encoding.shape != parameter.shape:
        raise EncodingError(
            f"encoding of {name!r} has shape {encoding.shape}; the parameter {parameter.shape}"
        )
    decoded = encoding.project(parameter)
    wrong = np.flatnonzero(decoded.reshape(-1) != parameter.reshape(-1))
    if wrong.size:
        index = np.unravel_index(int(wrong[0]), parameter.shape)
        place = tuple(int(i) for i in index)
        kind = "mask" if isinstance(encoding, Masked) else f"{Encoded.__name__.lower()} values"
        raise EncodingError(
            f"{name!r} at {place}: parameter {parameter[index]!r}, {kind} give "
            f"{decoded[index]!r}; they must be equal bit for bit"
        )
