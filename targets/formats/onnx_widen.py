"""Channels of zeros before the first convolution, so that onnxruntime takes its fast kernel.

Its direct convolution of uint8 by int8 on x86 (MLAS, ConvSym) wants channels by fours. A net for
pictures has 3: the layer is unfolded into rows of 27 bytes for a 3 x 3 kernel, which are copied
byte by byte, and in SqueezeNet 1.1 took a third of the time, longer than in float. A fourth
channel of zero points by weights of 0 changes no sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from targets.formats.onnx_sheet import Sheet

# ConvSym's step in channels of input, and the least channels of output it takes.
STEP = 4
LEAST_OUTPUTS = 16


def widen_input(sheet: Sheet, entry: str) -> None:
    """Give the integer convolutions that read `entry`, the net's input on its grid, more channels.

    Where something else reads it or their weights nothing is changed. The weights stay in the
    file as they are: a Pad of the constant, done once when a session starts, adds their zeros.
    """
    makers = {node.output[0]: node for node in sheet.nodes}
    readers = [node for node in sheet.nodes if entry in node.input]
    weights = {node.input[1] for node in readers if len(node.input) > 1}
    lacking = {_missing(node, makers, sheet.constants) for node in readers}
    outside = any(weights & {*node.input} for node in sheet.nodes if node not in readers)
    if outside or len(lacking) != 1 or lacking == {0}:
        return
    channels = np.array([0, 0, 0, 0, 0, *lacking, 0, 0], np.int64)
    sheet.keep("wide_channels", channels)
    nodes: list[onnx.NodeProto] = []
    for node in sheet.nodes:
        if node.output[0] in weights | {entry}:
            nodes.append(_pad(node, node.input[0] in sheet.constants))
        nodes.append(node)
    sheet.nodes[:] = nodes


def _missing(
    node: onnx.NodeProto,
    makers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> int:
    """The channels that an integer Conv lacks for the fast kernel; 0 where it has no use of any."""
    weight = makers.get(node.input[1]) if len(node.input) > 1 else None
    stored = constants.get(weight.input[0]) if weight is not None else None
    grouped = any(a.name == "group" and a.i != 1 for a in node.attribute)
    if node.op_type != "Conv" or grouped or stored is None or len(stored.dims) != 4:
        return 0
    return -stored.dims[1] % STEP if stored.dims[0] >= LEAST_OUTPUTS else 0


def _pad(dequantize: onnx.NodeProto, constant: bool) -> onnx.NodeProto:
    """What adds the channels to the codes that `dequantize` reads: of their zero point.

    That of weights is 0, which Pad fills in by itself.
    """
    codes = dequantize.input[0]
    wide = dequantize.input[0] = f"{codes}_wide"
    inputs = [codes, "wide_channels"] if constant else [codes, "wide_channels", dequantize.input[2]]
    return helper.make_node("Pad", inputs, [wide], name=f"{wide}/Pad")
