"""A made-up report, and tiny ONNX files, for the tests of measuring and reporting."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.measurement import Measurement
from targets.report import Report
from targets.report_row import Latency, Row
from targets.report_stages import Layer, SizePoint, SkippedLayer, StepRow

UNMEASURED = (
    *("runtime", "provider", "device", "threads", "load_ms", "first_ms", "latency_ms"),
    *("times_ms", "peak_rss_bytes", "rss_base_bytes", "provenance", "noisy"),
    *("rss_load_bytes", "peak_rss_load_bytes"),
)


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_row(path: str, precision: str, download: int, median_ms: float, top1: float) -> Row:
    """A measured row whose other fields are plausible constants."""
    times = tuple(tuple(round(median_ms * (1 + d / 100), 6) for d in range(-4, 5)) for _ in "ab")
    return Row(
        model="lenet5",
        dataset="mnist",
        method="none" if precision == "fp32" else "deep-compression",
        format=path.rpartition(".")[2],
        precision=precision,
        path=path,
        sha256=sha(path),
        file_bytes=2 * download,
        download_bytes=download,
        params=431_080,
        nonzeros=34_000,
        macs=2_293_000,
        top1=top1,
        top1_fp32=0.9919,
        samples=10_000,
        won=3,
        lost=5,
        runtime="onnxruntime 1.31.1",
        provider="CPUExecutionProvider",
        device="local",
        threads=1,
        load_ms=4.2,
        first_ms=0.5,
        latency_ms=Latency(median_ms, 0.97 * median_ms, 1.03 * median_ms, 18),
        times_ms=times,
        peak_rss_bytes=67_000_000,
        rss_base_bytes=48_000_000,
        provenance="measured",
        noisy=False,
        evaluated_sha256=sha(path),
        brotli_bytes=download - 1_000 if download > 1_000 else download,
        zstd_bytes=download,
        rss_load_bytes=52_000_000,
        peak_rss_load_bytes=53_000_000,
        baseline_bytes=1_724_320,
        ratio=4.0,
        not_measured={"instructions": "counted only under an emulator"},
    )


def make_measurement(file: str, *processes: Sequence[float], **settings: object) -> Measurement:
    """One thread on this machine, with each process's times in ms."""
    made = Measurement(
        file=file,
        sha256=sha(file),
        runtime="r",
        runtime_version="1",
        provider="p",
        device="local",
        threads=1,
        load_ms=1.0,
        first_ms=1.0,
        times_ms=tuple(tuple(times) for times in processes),
        warmups=(10,) * len(processes),
        settled=True,
        peak_rss_bytes=12_000_000,
        rss_base_bytes=None,
        provenance="measured",
        environment={},
    )
    return replace(made, **settings)  # type: ignore[arg-type]


def unmeasured(row: Row, reason: str = "no stock runtime loads this format") -> Row:
    """The row of a file that was scored but not run."""
    fields: dict[str, Any] = dict.fromkeys(UNMEASURED)
    gaps = {**row.not_measured, **dict.fromkeys(UNMEASURED, reason)}
    return replace(row, **fields, not_measured=gaps)


def make_report(*rows: Row) -> Report:
    """A whole report; with the given rows, or four usual ones."""
    usual = (
        make_row("net-fp32.onnx", "fp32", 1_600_000, 0.084, 0.9919),
        make_row("net-int8.onnx", "int8", 62_000, 0.041, 0.9912),
        make_row("net-shared.onnx", "shared", 189_000, 0.084, 0.9917),
        unmeasured(make_row("net.dc", "shared", 39_900, 1.0, 0.9917)),
    )
    return Report(
        recipe="lenet5_deep_compression",
        git_commit="0123456789" * 4,
        seed=0,
        created="2026-01-31T12:00:00+00:00",
        environment={"cpu": "AMD EPYC", "cores": 2, "governor": None, "load_average": 0.5},
        steps=(
            StepRow("FoldBatchNorm", "FoldBatchNorm()", 0.01, parameters=9, nonzeros=9),
            StepRow(
                "PruneMagnitude",
                "PruneMagnitude(sparsity=0.9)",
                12.5,
                ("ip1",),
                (SkippedLayer("ip2", "too few weights"),),
                {"top1": 0.95},
                9,
                4,
                sha("step"),
                "01.safetensors",
            ),
        ),
        rows=rows or usual,
        sizes=(SizePoint("fp32", 1_724_320), SizePoint("PruneMagnitude", 181_200)),
        layers=(
            Layer("ip1.weight", (500, 800), 400_000, 32_000, 0.92, 5, "shared"),
            Layer("ip1.bias", (500,), 500, 500, 0.0, 32, "float32"),
        ),
        not_measured=("MACs of relu x 1: comparisons only",),
    )


def write_onnx(path: Path, width: int = 8, batch: int | str = "N", side: int | str = 16) -> Path:
    """A convolution and a ReLU over (batch, 3, side, side)."""
    values = np.random.default_rng(0).standard_normal((width, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, width, side, side])],
        [numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def write_tflite(path: Path, kind: str = "FLOAT32") -> Path:
    """One ReLU over (1, 8, 8, 3), of type FLOAT32 or INT8, written by the runtime's own schema."""
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = pytest.importorskip("flatbuffers")
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, [1, 8, 8, 3]
        tensor.type, tensor.buffer = getattr(schema.TensorType, kind), 0
        if kind == "INT8":
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [0.05], [-3]
        subgraph.tensors = [*(subgraph.tensors or []), tensor]
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    operator.inputs, operator.outputs = [0], [1]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 2 if kind == "INT8" else 1
    subgraph.inputs, subgraph.outputs, subgraph.operators = [0], [1], [operator]
    model.version, model.operatorCodes, model.buffers = 3, [code], [schema.BufferT()]
    model.subgraphs = [subgraph]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
