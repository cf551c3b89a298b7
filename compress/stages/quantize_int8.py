"""QuantizeInt8: int8 or int4 weights and calibrated 8-bit grids for the activations.

Jacob et al. 2018 (arXiv:1712.05877), section 2; Krishnamoorthi (arXiv:1806.08342), sections 2-3:
weights symmetric with a scale for each output channel, activations asymmetric with one for each
tensor. The arithmetic that results is `simulate`'s, and both file formats carry these grids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.affine import affine_grid
from compress.calibrate import Calibrator, Range
from compress.candidate import ActivationQuant, Candidate, Skipped
from compress.encoding import Encoded
from compress.errors import RangeError
from compress.graph import Graph, TensorId
from compress.int8_weights import bias_floor, dense_integers, shared_int8
from compress.network import LayerInfo
from compress.placement import ACTIVATIONS, SAME_GRID, grid_groups
from compress.select import select
from compress.stage import StageResult
from compress.stages.fold_batchnorm import need_folded
from compress.stages.layers import (
    check_grid_bits,
    check_patterns,
    choose,
    settings_by_layer,
)
from compress.task import Task

Grids = Mapping[TensorId, ActivationQuant]
_OBSERVERS = ("minmax", "percentile", "mse")


@dataclass(frozen=True)
class QuantizeInt8:
    """Put weights and activations on integer grids; batch norms must be folded before.

    observer: "minmax"; "percentile" with percentile in (50, 100] of the values inside; or "mse",
    the range that errs least. The last two see the pictures twice, and are for photographs, whose
    activations have long thin tails; the net's outputs keep their whole range.
    per_channel: a scale for each output channel of a dense weight, or one in all. Shared weights
    keep indices and zeros: their codebook is rounded. Integer weights stay as they are.
    weight_bits: 8 or 4 for dense weights, or (pattern, bits) pairs by layer name or role, of which
    the first that fits counts; layers that none fits take 8. Activations always have 8.
    keep_float: layers, by name or role, that go on computing in float; tensors between two such
    layers, and outputs of one that nothing else reads, have no grid.
    The ranges are those of the candidate before its weights are rounded (as the runtimes' own
    calibrators take them), over every batch of task.calibration.
    """

    observer: Literal["minmax", "percentile", "mse"] = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    weight_bits: int | tuple[tuple[str, int], ...] = 8
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_patterns("QuantizeInt8", keep_float=self.keep_float)
        if self.observer not in _OBSERVERS:
            allowed = ", ".join(map(repr, _OBSERVERS))
            raise RangeError(f"QuantizeInt8(observer={self.observer!r}): allowed are {allowed}")
        number = type(self.percentile) in (int, float)
        if not (number and 50 < self.percentile <= 100):
            raise RangeError(
                f"QuantizeInt8(percentile={self.percentile!r}): allowed is above 50, up to 100"
            )
        check_grid_bits("QuantizeInt8", "weight_bits", self.weight_bits)

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        need_folded(candidate, "QuantizeInt8")
        layers, skipped = choose(candidate, ("*",), ())
        floats = self._float_layers(candidate, layers)
        bits = settings_by_layer(layers, self.weight_bits)
        grids, ties = self._grids(candidate, task, floats)
        own = candidate.network.parameters()
        encodings: dict[str, Encoded] = {}
        touched: list[str] = []
        for layer in layers:
            if layer.name in floats:
                skipped.append(Skipped(layer.name, "kept in float"))
                continue
            bias = own.get(layer.bias) if layer.bias is not None else None
            values = own[layer.weight], bias
            done = self._weight(candidate, layer, values, grids, bits.get(layer.name, 8))
            if isinstance(done, str):
                skipped.append(Skipped(layer.name, done))
            else:
                encodings[layer.weight] = done
                touched.append(layer.name)
        fresh = candidate.with_values({}, encodings)
        fresh = replace(fresh, activations=grids, ties=ties, float_nodes=floats)
        return StageResult(fresh, tuple(touched), tuple(skipped))

    def _float_layers(self, candidate: Candidate, layers: tuple[LayerInfo, ...]) -> tuple[str, ...]:
        chosen = select(layers, self.keep_float) if self.keep_float else ()
        for layer in chosen:
            known = candidate.encodings.get(layer.weight)
            if isinstance(known, Encoded) and known.on_integers:
                raise RangeError(
                    f"QuantizeInt8(keep_float={self.keep_float!r}): {layer.name!r} has integer "
                    f"weights already; name it in the stage that made them"
                )
        return tuple(layer.name for layer in chosen)

    def _grids(
        self, candidate: Candidate, task: Task, floats: tuple[str, ...]
    ) -> tuple[dict[TensorId, ActivationQuant], tuple[frozenset[TensorId], ...]]:
        """The grid of every tensor that needs one, and the groups that share one."""
        network = candidate.network
        calibration = task.need_calibration("QuantizeInt8")
        calibrator = Calibrator(network.graph, calibration, network.input_shape, "QuantizeInt8")
        name: str = self.observer
        if self.observer == "percentile":
            seen, name = calibrator.percentile(self.percentile), f"{name} {self.percentile:g}"
        else:
            seen = calibrator.mse() if self.observer == "mse" else calibrator.minmax()
        groups = [
            group
            for group in grid_groups(network.graph)
            if group <= seen.keys() and not _all_float(network.graph, group, floats)
        ]
        grids = {tensor: _grid(seen, group, name) for group in groups for tensor in group}
        order = [node.id for node in network.graph.nodes if node.id in grids]
        ties = tuple(sorted((g for g in groups if len(g) > 1), key=min))
        return {tensor: grids[tensor] for tensor in order}, ties

    def _weight(
        self,
        candidate: Candidate,
        layer: LayerInfo,
        values: tuple[NDArray[np.float32], NDArray[np.float32] | None],
        grids: Grids,
        bits: int,
    ) -> Encoded | str:
        """The layer's integer weight, from its float (weight, bias), or why it is left alone."""
        old = candidate.encodings.get(layer.weight)
        if isinstance(old, Encoded) and old.on_integers:
            return "its weights are integers already"
        readers = [
            node
            for node in candidate.network.graph.nodes
            if node.parameters.get("weight") == layer.weight
        ]
        if not readers:
            return "the net never uses it"
        weight, bias = values
        scales = [grids[r.inputs[0]].scale for r in readers if r.inputs[0] in grids]
        floor = bias_floor(bias if scales else None, min(scales, default=1.0), layer.shape[0])
        if isinstance(old, Encoded):
            return shared_int8(old, floor)
        return dense_integers(weight, layer.axis if self.per_channel else None, floor, bits)


def _all_float(graph: Graph, group: frozenset[TensorId], floats: tuple[str, ...]) -> bool:
    """True where only float layers write the group's tensors, and only such layers read them.

    The net's input counts as written by one, its output as read by one; operators inside the
    group merely move values.
    """
    weights = {f"{name}.weight" for name in floats}
    for tensor in group:
        node = graph.by_id[tensor]
        before = graph.by_id[node.inputs[0]] if node.id.operator in ACTIVATIONS else node
        makers = [] if node.id.operator in SAME_GRID | {"input"} else [before]
        readers = [r for r in graph.consumers[tensor] if r.id.operator not in SAME_GRID]
        if any(n.parameters.get("weight") not in weights for n in (*makers, *readers)):
            return False
    return bool(floats)


def _grid(
    seen: Mapping[TensorId, Range], group: frozenset[TensorId], observer: str
) -> ActivationQuant:
    low = min(seen[tensor][0] for tensor in group)
    high = max(seen[tensor][1] for tensor in group)
    scale, zero_point = affine_grid(low, high)
    return ActivationQuant(float(scale), zero_point, 8, observer)
