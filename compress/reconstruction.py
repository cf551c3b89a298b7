"""What each layer of a net sees once the layers before it have changed, and what it should give.

The inputs come from the net with the earlier layers as they are now, the wanted outputs from the
net as it was (Nagel et al. 2020, arXiv:2004.10568, section 4, "asymmetric reconstruction"), at the
same sampled positions of the same pictures. The changed net is run in step over blocks of pictures,
one operator after another; the wider its tensors are, the fewer blocks are under way, so that they
take at most LIVE_BYTES together.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from compress.columns import columns_at, positions_of
from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.liveness import pictures_that_fit
from compress.network import LayerInfo, TorchNetwork, blocks
from compress.placement import ACTIVATIONS, clip_ends
from compress.task import Batch

LIVE_BYTES = 1 << 29
# Few at a time: every tensor of a block may be alive at once.
BLOCK = 8


@dataclass(frozen=True, eq=False)
class Sample:
    """One layer at sampled positions, in g groups of m outputs and n inputs; all float32.

    inputs: (g, positions, n) of the net with the earlier layers changed. outputs: (g, positions, m)
    that the layer gave in the net as it was, without its bias. bias: (g, 1, m).
    low, high: where the activation function behind it cuts off; infinite without one.
    reach: (least, greatest) value in the whole of the changed input.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    bias: torch.Tensor
    low: float
    high: float
    reach: tuple[float, float]


Floats = NDArray[np.float32]
# The layer's new weight and bias, None for the bias that it had.
Solve = Callable[[LayerInfo, Sample], tuple[Floats, Floats | None]]


@dataclass(frozen=True)
class Sampling:
    """positions: at most so many of each layer, spread over its pictures; `seed` draws them."""

    positions: int = 2048
    seed: int = 0


def reconstruct(
    network: TorchNetwork,
    layers: Sequence[LayerInfo],
    batches: Iterable[Batch],
    sampling: Sampling,
    solve: Solve,
) -> dict[str, tuple[Floats, Floats | None]]:
    """What `solve` gave for each of `layers`, by the name of its weight, in the order of the net.

    A layer that the net never uses is absent; one used twice is solved where it is used first.
    """
    size = BLOCK if network.graph.dynamic_batch else 1
    pictures = [block for batch in batches for block in blocks(batch, size)]
    walk = _Walk(network, layers, pictures, sampling, solve)
    with torch.inference_mode():
        walk.look()
        walk.run()
    return walk.solved


class _Walk:
    def __init__(
        self,
        network: TorchNetwork,
        layers: Sequence[LayerInfo],
        pictures: Sequence[torch.Tensor],
        sampling: Sampling,
        solve: Solve,
    ) -> None:
        self.graph, self.module = network.graph, network.module()
        self.pictures, self.sampling, self.solve = pictures, sampling, solve
        self.solved: dict[str, tuple[Floats, Floats | None]] = {}  # by name of the weight
        self.layers = _first_uses(self.graph, layers)
        fitting = pictures_that_fit(self.graph, LIVE_BYTES)
        size = max(len(block) for block in pictures)
        self.blocks_at = {
            tensor: min(len(pictures), max(1, fitting[tensor] // size)) for tensor in self.layers
        }
        self.places: dict[TensorId, list[torch.Tensor]] = {}
        self.wanted: dict[TensorId, list[torch.Tensor]] = {tensor: [] for tensor in self.layers}
        self.own = network.parameters()

    def look(self) -> None:
        """Keep what the net as it was gives at the sampled positions."""
        for number, block in enumerate(self.pictures):

            def see(tensor: TensorId, value: torch.Tensor, number: int = number) -> torch.Tensor:
                if tensor in self.layers and number < self.blocks_at[tensor]:
                    given = positions_of(self._module_of(tensor), value)
                    places = self._places(tensor, number, given)
                    every = torch.arange(len(given))[:, None]
                    self.wanted[tensor].append(given[every, places].flatten(0, 1))
                return value

            GraphRunner(self.graph, see).run(block.clone())

    def _places(self, tensor: TensorId, number: int, given: torch.Tensor) -> torch.Tensor:
        """Sampled positions of block `number`: int64 (pictures, k)."""
        pictures = sum(len(block) for block in self.pictures[: self.blocks_at[tensor]])
        count = min(given.shape[1], max(1, self.sampling.positions // pictures))
        order = list(self.layers).index(tensor)
        rng = np.random.default_rng((self.sampling.seed, order, number))
        drawn = rng.random((len(given), given.shape[1])).argsort(axis=1)[:, :count]
        places = torch.from_numpy(drawn)
        self.places.setdefault(tensor, []).append(places)
        return places

    def run(self) -> None:
        """Solve layer after layer, each on what the solved ones before it give."""
        under_way: list[_Block] = []
        nodes = list(self.graph.program.graph.nodes)
        for done, node in enumerate(nodes):
            tensor = self.graph.ids.get(node)
            if tensor in self.layers:
                for number in range(len(under_way), self.blocks_at[tensor]):
                    under_way.append(_Block(self.graph, self.pictures[number], self._compute))
                    for earlier in nodes[:done]:
                        under_way[-1].step(earlier)
                self._solve(tensor, [block.argument(node) for block in under_way])
                if len(self.solved) == len(self.layers):
                    return
            for block in under_way:
                block.step(node)

    def _solve(self, tensor: TensorId, inputs: Sequence[torch.Tensor]) -> None:
        layer, module = self.layers[tensor], self._module_of(tensor)
        pairs = zip(inputs, self.places[tensor], strict=True)
        seen = torch.cat([columns_at(module, value, places) for value, places in pairs], dim=1)
        groups = layer.groups
        wanted = torch.cat(self.wanted.pop(tensor))
        bias = torch.zeros(layer.shape[0])
        if layer.bias is not None:
            bias = torch.from_numpy(np.array(self.own[layer.bias]))
        outputs = (wanted - bias).reshape(len(wanted), groups, -1).transpose(0, 1).contiguous()
        ends = [value.aminmax() for value in inputs]
        reach = min(float(e.min) for e in ends), max(float(e.max) for e in ends)
        limits = _limits(self.graph, tensor)
        sample = Sample(seen, outputs, bias.reshape(groups, 1, -1), *limits, reach)
        with torch.inference_mode(mode=False):
            self.solved[layer.weight] = self.solve(layer, sample)

    def _compute(self, tensor: TensorId, node: fx.Node, args: tuple[Any, ...]) -> Any:
        """A solved layer with its new weight, wherever the net uses it."""
        known = self.graph.by_id.get(tensor)
        fresh = None if known is None else self.solved.get(known.parameters.get("weight", ""))
        if fresh is None:
            return None
        weight, bias = fresh
        rest = args[2:] if bias is None else (torch.from_numpy(bias), *args[3:])
        return node.target(args[0], torch.from_numpy(weight), *rest)  # type: ignore[operator]

    def _module_of(self, tensor: TensorId) -> nn.Module:
        module = self.module.get_submodule(self.layers[tensor].name)
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            # An operator before it pads in the program: what the layer reads is padded already.
            module = copy.copy(module)
            module.padding, module.padding_mode = (0, 0), "zeros"
        return module


@dataclass
class _Block:
    """One block of pictures on its way through the net: the tensors that are needed still."""

    graph: Graph
    picture: torch.Tensor
    compute: Callable[[TensorId, fx.Node, tuple[Any, ...]], Any]
    runner: GraphRunner = field(init=False)

    def __post_init__(self) -> None:
        self.runner = GraphRunner(self.graph, lambda _, value: value, self.compute)
        self.runner.env = {}
        self.runner.args_iter = iter([self.picture.clone()])

    def argument(self, node: fx.Node) -> torch.Tensor:
        """The tensor that a layer reads."""
        return self.runner.env[node.args[0]]  # type: ignore[index]

    def step(self, node: fx.Node) -> None:
        """Do one operator, and forget what nothing reads from here on."""
        if node.op == "output":
            return
        self.runner.env[node] = self.runner.run_node(node)
        for gone in self.runner.user_to_last_uses.get(node, []):
            del self.runner.env[gone]


def _first_uses(graph: Graph, layers: Sequence[LayerInfo]) -> dict[TensorId, LayerInfo]:
    """Where the net uses each layer first, in its order."""
    by_weight = {layer.weight: layer for layer in layers}
    found: dict[TensorId, LayerInfo] = {}
    for node in graph.nodes:
        layer = by_weight.pop(node.parameters.get("weight", ""), None)
        if layer is not None:
            found[node.id] = layer
    return found


def _limits(graph: Graph, tensor: TensorId) -> tuple[float, float]:
    """Where the one reader of a layer cuts its output off, if it is an activation function."""
    reader = graph.feeds_only(tensor)
    if reader is None or reader.id.operator not in ACTIVATIONS:
        return -math.inf, math.inf
    node = next(n for n, known in graph.ids.items() if known == reader.id)
    return clip_ends(reader.id.operator, node.args)
