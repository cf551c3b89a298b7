"""FoldBatchNorm: batch norm becomes part of the convolution or linear layer before it.

Jacob et al. 2018 (arXiv:1712.05877), section 3.2, equation 14: w' = gamma w / sqrt(var + eps),
b' = gamma (b - mean) / sqrt(var + eps) + beta. Works at any time: a pruned layer keeps its zeros,
a shared or integer one takes the factor into its scale and keeps its codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.candidate import Candidate, Skipped
from compress.edit import FoldedBatchNorm
from compress.encoding import Encoding
from compress.errors import StageOrderError
from compress.graph import Graph, TensorNode
from compress.stage import StageResult
from compress.stages.layers import rebuilt
from compress.task import Task

State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FoldBatchNorm:
    """Fold each batch norm that is the only reader of a convolution or linear layer.

    The outputs stay the same but for float32 rounding. Batch norms elsewhere stay, with the
    reason. A net without batch norm comes back as it is.
    """

    changes: ClassVar[Literal["structure", "values"]] = "structure"
    needs_dense: ClassVar[bool] = False  # encodings take the factor into their scale

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        del task
        graph = candidate.network.graph
        found = [_judge(graph, n) for n in graph.nodes if n.id.operator == "batch_norm"]
        if found and candidate.activations:
            raise StageOrderError(
                "FoldBatchNorm changes tensors whose integer grids are set already; "
                "put FoldBatchNorm before QuantizeInt8"
            )
        skipped = [f for f in found if isinstance(f, Skipped)]
        folds = [f for f in found if isinstance(f, FoldedBatchNorm)]
        if folds:
            candidate = _fold(candidate, folds)
        return StageResult(candidate, tuple(f.layer for f in folds), tuple(skipped))


def unfolded(candidate: Candidate) -> tuple[str, ...]:
    """Names of the batch norms that still act in the net."""
    nodes = candidate.network.graph.nodes
    return tuple(_norm_name(n) for n in nodes if n.id.operator == "batch_norm")


def norm_factors(candidate: Candidate, norms: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """By what each of `norms` multiplies its channels, (channels,)."""
    state, module = candidate.network.state(), candidate.network.module()
    return {norm: _affine(state, norm, _epsilon(module, norm))[0] for norm in norms}


def _epsilon(module: nn.Module, norm: str) -> float:
    return float(module.get_submodule(norm).eps)  # type: ignore[arg-type]


def need_folded(candidate: Candidate, asker: str) -> None:
    """StageOrderError in the name of `asker` where a batch norm still acts."""
    left = unfolded(candidate)
    if left:
        raise StageOrderError(
            f"{asker} needs folded batch norms, and {left[0]!r} acts still; put FoldBatchNorm "
            f"before {asker} (it folds those that follow a convolution)"
        )


def _judge(graph: Graph, node: TensorNode) -> FoldedBatchNorm | Skipped:
    """The fold of one batch norm, or why there is none."""
    norm = _norm_name(node)
    before = graph.by_id[node.inputs[0]]
    weight = before.parameters.get("weight", "")
    uses = Counter(name for n in graph.nodes for name in n.parameters.values())
    if "running_mean" not in node.parameters:
        return Skipped(norm, "it keeps no running statistics")
    if before.id.operator not in ("conv2d", "linear") or not weight:
        return Skipped(norm, f"it follows {before.id}, not a convolution or linear layer")
    if before.id.operator == "linear" and len(before.shape) != 2:
        return Skipped(norm, f"its channels are not those of the linear layer {before.id}")
    if graph.feeds_only(before.id) is None:
        return Skipped(norm, f"{before.id} is also read elsewhere")
    if uses[weight] > 1 or uses[node.parameters["running_mean"]] > 1:
        return Skipped(norm, "the layer before it or the batch norm itself is used more than once")
    return FoldedBatchNorm(weight.rpartition(".")[0], norm)


def _norm_name(node: TensorNode) -> str:
    named = node.parameters.get("running_mean") or node.parameters.get("weight")
    return named.rpartition(".")[0] if named else node.id.module


def _fold(candidate: Candidate, folds: list[FoldedBatchNorm]) -> Candidate:
    state = dict(candidate.network.state())
    encodings = dict(candidate.encodings)
    module = candidate.network.module()
    for fold in folds:
        epsilon = _epsilon(module, fold.norm)
        weight, bias = f"{fold.layer}.weight", f"{fold.layer}.bias"
        factor, shift = _affine(state, fold.norm, epsilon)
        state[weight], encoding = _scaled(state[weight], encodings.get(weight), factor)
        if encoding is not None:
            encodings[weight] = encoding
        old = state[bias].astype(np.float64) if bias in state else 0.0
        state[bias] = (old * factor + shift).astype(np.float32)
        gone = [name for name in (*state, *encodings) if name.startswith(f"{fold.norm}.")]
        for name in (*gone, bias):
            encodings.pop(name, None)
        for name in gone:
            state.pop(name, None)
    return rebuilt(candidate, folds, state, encodings)


def _affine(
    state: State, norm: str, epsilon: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(factor, shift) of the batch norm as y = factor * x + shift, float64 per channel."""
    mean = state[f"{norm}.running_mean"].astype(np.float64)
    variance = state[f"{norm}.running_var"].astype(np.float64)
    gamma = state[f"{norm}.weight"].astype(np.float64) if f"{norm}.weight" in state else 1.0
    beta = state[f"{norm}.bias"].astype(np.float64) if f"{norm}.bias" in state else 0.0
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, beta - mean * factor


def _scaled(
    weight: NDArray[Any], encoding: Encoding | None, factor: NDArray[np.float64]
) -> tuple[NDArray[np.float32], Encoding | None]:
    """The weight times the factor of each output channel, and its encoding after that."""
    shape = (-1,) + (1,) * (weight.ndim - 1)
    scaled = (weight.astype(np.float64) * factor.reshape(shape)).astype(np.float32)
    if encoding is None:
        return scaled, None
    kept = encoding.scaled(0, factor.astype(np.float32))
    return kept.project(scaled), kept
