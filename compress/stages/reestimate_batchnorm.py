"""ReestimateBatchNorm: running means and variances as the changed net's own tensors have them.

Pruned or shared weights change what a batch norm sees, and its old statistics no longer fit; as
after averaging weights (P. Izmailov et al., arXiv:1803.05407) they are computed anew from pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.channel_stats import ChannelStats, channel_stats
from compress.errors import StageOrderError, TaskError
from compress.graph import Graph, TensorId, TensorNode
from compress.network import TorchNetwork
from compress.stage import StageResult
from compress.stages.fold_batchnorm import unfolded
from compress.task import Task

_ASKER = "ReestimateBatchNorm"


@dataclass(frozen=True)
class ReestimateBatchNorm:
    """Give each batch norm the mean and variance of its inputs over all of task.calibration.

    Exact: those of the finished net, every earlier batch norm having its new ones; the variance is
    the unbiased one, as torch keeps it. For that the pictures are seen once for each batch norm on
    the longest way through the net, up to it. Weights and encodings stay. A net without batch norm
    comes back as it is. For a candidate whose activations have no grids yet.
    """

    changes: ClassVar[Literal["structure", "values"]] = "values"

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        left = unfolded(candidate)
        if left and candidate.activations:
            raise StageOrderError(
                f"ReestimateBatchNorm changes {left[0]!r}, after which integer grids are set "
                f"already; put ReestimateBatchNorm before QuantizeInt8"
            )
        graph = candidate.network.graph
        norms = [node for node in graph.nodes if node.id.operator == "batch_norm"]
        kept = {n.id for n in norms if "running_mean" in n.parameters}
        network = candidate.network
        for level in _levels(graph, kept):
            network = _renewed(network, level, task)
        without = (n for n in norms if n.id not in kept)
        skipped = [Skipped(n.id.module, "it keeps no running statistics") for n in without]
        touched = dict.fromkeys(_name(graph.by_id[tensor]) for tensor in sorted(kept))
        done = replace(candidate, network=network)
        return StageResult(done, tuple(touched), tuple(skipped))


def _name(node: TensorNode) -> str:
    return node.parameters["running_mean"].rpartition(".")[0]


def _levels(graph: Graph, norms: set[TensorId]) -> list[list[TensorNode]]:
    """The batch norms by how many lie before them at most; one used twice where it is last used."""
    depth: dict[TensorId, int] = {}
    last: dict[str, int] = {}
    for node in graph.nodes:
        before = max((depth[source] for source in node.inputs), default=0)
        depth[node.id] = before + (node.id in norms)
        if node.id in norms:
            last[_name(node)] = max(depth[node.id], last.get(_name(node), 0))
    levels: dict[int, list[TensorNode]] = {}
    for tensor in depth:
        if tensor in norms:
            levels.setdefault(last[_name(graph.by_id[tensor])], []).append(graph.by_id[tensor])
    return [levels[number] for number in sorted(levels)]


def _renewed(network: TorchNetwork, level: list[TensorNode], task: Task) -> TorchNetwork:
    """The net with the statistics of these batch norms' inputs."""
    wanted = {node.inputs[0] for node in level}
    calibration = task.need_calibration(_ASKER)
    seen = channel_stats(network.graph, wanted, calibration, network.input_shape, _ASKER)
    by_name: dict[str, ChannelStats] = {}
    for node in level:
        stats, name = seen[node.inputs[0]], _name(node)
        by_name[name] = by_name[name].joined(stats) if name in by_name else stats
    changed: dict[str, NDArray[np.float32]] = {}
    for name, stats in by_name.items():
        if stats.count < 2:
            raise TaskError(
                f"ReestimateBatchNorm: calibration gives {name!r} one value a channel, which has "
                f"no variance; give at least two pictures"
            )
        variance = stats.squares / (stats.count - 1)
        changed[f"{name}.running_mean"] = stats.mean.astype(np.float32)
        changed[f"{name}.running_var"] = variance.astype(np.float32)
    return network.with_parameters(changed)
