"""The float graph of a candidate in ONNX: torch's exporter, then made plain and repeatable."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import onnx
import torch
from onnx import helper, numpy_helper

from compress.candidate import Candidate
from compress.errors import ExportError, first_line
from targets.formats.exportable import OUTPUT, check_folded
from targets.formats.onnx_sheet import prune_initializers
from targets.formats.reweighing import reweighed

# Opset 18 has the axes of ReduceMean as an input; 21 the newest that was checked end to end.
OPSETS = (18, 19, 20, 21)


def float_model(candidate: Candidate, opset: int) -> onnx.ModelProto:
    """The candidate as float32 operators, batch of one, batch norm folded, no trace of the tools.

    Input by the specification's name, output 'logits'. Raises ExportError for nets that the
    exporter cannot write, and for encoded ones whose batch norm is not folded.
    """
    check_folded(candidate)
    written = reweighed(candidate, f"onnx {opset}", lambda: _converted(candidate, opset))
    return onnx.load_from_string(written)


def _converted(candidate: Candidate, opset: int) -> bytes:
    """torch's exporter called on the net itself."""
    shape = (1, *candidate.spec.input_shape[1:])
    name = candidate.spec.inputs[0].name
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                candidate.network.module(),
                (torch.zeros(shape),),
                input_names=[name],
                output_names=[OUTPUT],
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types, none documented
        name, reason = candidate.spec.name, first_line(error)
        raise ExportError(f"torch cannot write {name} as ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    _pool_instead_of_mean(model.graph)
    _strip(model)
    prune_initializers(model.graph)
    return model.SerializeToString(deterministic=True)


@contextmanager
def _quiet() -> Generator[None]:
    """No prints, warnings or log lines of the exporter; they are about its own inside."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        silent = io.StringIO()
        with warnings.catch_warnings(), redirect_stdout(silent), redirect_stderr(silent):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what explains the exporter's work and not the net: 70 to 300 kB.

    The file says the oldest IR version that its opset allows: older runtimes refuse a newer one.
    """
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    model.producer_name = "edgepress"
    model.producer_version = ""
    model.doc_string = ""
    del model.metadata_props[:]
    del model.functions[:]
    graph = model.graph
    graph.name = "net"
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


def _pool_instead_of_mean(graph: onnx.GraphProto) -> None:
    """ReduceMean over height and width as GlobalAveragePool: runtimes have integer kernels for it.

    Where the mean drops the two axes, a Flatten follows.
    """
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    pictures = {v.name for v in graph.value_info if len(v.type.tensor_type.shape.dim) == 4}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        keeps = [a.i for a in node.attribute if a.name == "keepdims"] != [0]
        axes = constants.get(node.input[1]) if len(node.input) > 1 else None
        known = node.op_type == "ReduceMean" and axes is not None and node.input[0] in pictures
        if not known or axes is None or sorted(axes % 4) != [2, 3]:
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        pooled = target if keeps else f"{target}_pooled"
        nodes.append(helper.make_node("GlobalAveragePool", [source], [pooled], name=node.name))
        if not keeps:
            nodes.append(helper.make_node("Flatten", [pooled], [target], name=f"{node.name}_flat"))
    del graph.node[:]
    graph.node.extend(nodes)
