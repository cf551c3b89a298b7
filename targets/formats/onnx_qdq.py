"""A float ONNX model made integer on exactly the candidate's grids, by Quantize and Dequantize.

Each tensor with a grid goes through QuantizeLinear and DequantizeLinear, weights and biases are
stored as int8 and int32 behind a DequantizeLinear: the QDQ form, in which runtimes find
`DQ -> operator -> Q` and run an integer kernel in its place. The file's input and output stay
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from compress.candidate import ActivationQuant, Candidate
from targets.formats.onnx_sheet import Sheet, prune_initializers
from targets.formats.onnx_weights import write_integer_weights
from targets.formats.onnx_widen import widen_input

TOP = 255
# Layers whose float weights onnxruntime quantizes by itself, where it finds them between DQ and Q.
SEIZED = ("Conv", "ConvTranspose", "Gemm")


@dataclass
class QdqWriter:
    """One rewriting. `grids`: the grid of each of the file's float tensors that has one.

    `signed`: activations as int8 (integer and zero point less 128), else uint8.
    """

    candidate: Candidate
    grids: Mapping[str, ActivationQuant]
    signed: bool
    _sheet: Sheet = field(default_factory=Sheet)

    def rewrite(self, model: onnx.ModelProto) -> None:
        """Make `model` integer, in place. Raises ExportError for a weight it does not find."""
        graph = model.graph
        self._sheet = Sheet({tensor.name: tensor for tensor in graph.initializer})
        write_integer_weights(self._sheet, graph, self.candidate, self.grids)
        entry = graph.input[0].name
        sources = _fused_sources(graph, self.grids)
        if entry in self.grids:
            self._quantize(entry, f"{entry}_grid", self.grids[entry])
        for node in graph.node:
            for position, name in enumerate(node.input):
                if name == entry and entry in self.grids:
                    node.input[position] = f"{entry}_grid"
            if node.op_type in SEIZED and node.input[1] in self._sheet.constants:
                self._hold_in_float(node)
            self._emit(node, sources)
        if entry in self.grids and not self.signed:
            widen_input(self._sheet, f"{entry}_grid")
        del graph.node[:]
        graph.node.extend(self._sheet.nodes)
        del graph.initializer[:]
        graph.initializer.extend(self._sheet.constants.values())
        prune_initializers(graph)

    def _emit(self, node: onnx.NodeProto, sources: Mapping[str, str]) -> None:
        """`node`, and the grid behind each of its outputs.

        An activation function between an operator and its grid disappears: the grid's ends do its
        work, or a Clip of the integers does, so that the engine sees `operator -> Q` either way.
        """
        if node.output[0] in sources:
            limits = _limits(node, self._sheet.constants)
            grid = self.grids[node.output[0]]
            self._quantize(f"{node.output[0]}_float", node.output[0], grid, limits)
            return
        fused = {source: target for target, source in sources.items()}
        pending: list[tuple[str, str]] = []
        for position, name in enumerate(node.output):
            if name in fused:
                node.output[position] = f"{fused[name]}_float"
            elif name in self.grids:
                node.output[position] = f"{name}_float"
                pending.append((f"{name}_float", name))
        self._sheet.nodes.append(node)
        for source, target in pending:
            self._quantize(source, target, self.grids[target])

    def _hold_in_float(self, node: onnx.NodeProto) -> None:
        """Keep the engine from making a float layer integer: it would, with one scale a tensor.

        onnxruntime's WeightBiasQuantization takes each float weight between DQ and Q. A Clip to the
        ends of the grid changes no value and hides the DQ.
        """
        makers = [n for n in self._sheet.nodes if n.output[0] == node.input[0]]
        if not makers or makers[0].op_type != "DequantizeLinear":
            return
        _, scale, zero = makers[0].input
        target = f"{node.input[0]}_held"
        if not self._sheet.makes(target):
            step = self._sheet.value(scale)
            point = int(self._sheet.value(zero)) + (128 if self.signed else 0)
            ends = (np.float32(-point) * step, np.float32(TOP - point) * step)
            names = [f"{target}_low", f"{target}_high"]
            for name, end in zip(names, ends, strict=True):
                self._sheet.keep(name, np.array(end, np.float32))
            self._sheet.add("Clip", [node.input[0], *names], target)
        node.input[0] = target

    def _quantize(
        self,
        source: str,
        target: str,
        grid: ActivationQuant,
        limits: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        """source -> QuantizeLinear [-> Clip] -> DequantizeLinear -> target."""
        scale, zero = self._grid_constants(grid)
        codes = f"{target}_codes"
        lowest, highest = _codes_of(limits, grid)
        clipped = lowest > 0 or highest < TOP
        raw = f"{codes}_raw" if clipped else codes
        self._sheet.add("QuantizeLinear", [source, scale, zero], raw)
        if clipped:
            ends = [self._code_constant(lowest), self._code_constant(highest)]
            self._sheet.add("Clip", [raw, *ends], codes)
        self._sheet.add("DequantizeLinear", [codes, scale, zero], target)

    def _grid_constants(self, grid: ActivationQuant) -> tuple[str, str]:
        scale = np.float32(grid.scale)
        name = f"scale_{scale.view(np.uint32):08x}"
        self._sheet.keep(name, np.array(scale))
        return name, self._code_constant(grid.zero_point)

    def _code_constant(self, code: int) -> str:
        value = np.array(code - 128, np.int8) if self.signed else np.array(code, np.uint8)
        name = f"{'i' if self.signed else 'u'}{value}"
        self._sheet.keep(name, value)
        return name


def _fused_sources(graph: onnx.GraphProto, grids: Mapping[str, ActivationQuant]) -> dict[str, str]:
    """{output of an activation function with a grid: its input}, where that input has no grid."""
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    outside = {value.name for value in (*graph.input, *graph.output)}
    return {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in ("Relu", "Clip")
        and node.output[0] in grids
        and node.input[0] not in grids
        and readers[node.input[0]] == 1
        and node.input[0] not in outside
    }


def _limits(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> tuple[float, float]:
    """The real numbers between which an activation function holds its input."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    ends = [-np.inf, np.inf]
    for position, name in enumerate(node.input[1:3]):
        if name:
            ends[position] = float(numpy_helper.to_array(constants[name]))
    return ends[0], ends[1]


def _codes_of(limits: tuple[float, float], grid: ActivationQuant) -> tuple[int, int]:
    """The codes of the limits: rounding is monotone, so clipping codes is clipping values."""
    scale = np.float32(grid.scale)
    codes: list[int] = []
    for limit in limits:
        with np.errstate(over="ignore"):
            steps = float(np.rint(np.float32(limit) / scale)) + grid.zero_point
        codes.append(int(min(max(steps, 0.0), float(TOP))))
    return codes[0], codes[1]
