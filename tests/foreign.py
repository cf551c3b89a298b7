"""Model files of other tools for tests: torch's two exporters, and single nodes by onnx.helper."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

FLOAT = onnx.TensorProto.FLOAT


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights and statistics by which no two channels are alike; eval mode."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
                layer.running_mean.normal_(0, 0.2, generator=random)
                layer.running_var.uniform_(0.5, 2.0, generator=random)
                layer.weight.uniform_(0.5, 1.5, generator=random)
                layer.bias.normal_(0, 0.2, generator=random)
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.normal_(0, 1.4 / layer.weight[0].numel() ** 0.5, generator=random)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.2, generator=random)
    return module.eval()


def legacy(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    """By torch's TorchScript exporter, for exactly `shape` unless `dynamic_axes` is given."""
    options = {"input_names": ["input"], "output_names": ["output"], **options}
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(shape),), str(path), dynamo=False, **options)
    return path


def dynamo(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    """By torch's newer exporter."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            example = (torch.zeros(shape),)
            torch.onnx.export(
                module, example, str(path), dynamo=True, external_data=False, **options
            )
    finally:
        logging.disable(logging.NOTSET)
    return path


def nodes_file(
    nodes: Sequence[onnx.NodeProto],
    path: Path,
    constants: dict[str, np.ndarray] | None = None,
    shape: Sequence[int | str] = (1, 3, 8, 8),
    opset: int = 18,
    outputs: Sequence[str] = ("y",),
) -> Path:
    """A file of the given nodes: input 'x' of `shape`, initializers `constants`."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)
    return path


def pictures(shape: tuple[int, ...], count: int = 3) -> np.ndarray:
    """Noise, float32 (count, *shape[1:])."""
    return np.random.default_rng(7).normal(size=(count, *shape[1:])).astype(np.float32)
