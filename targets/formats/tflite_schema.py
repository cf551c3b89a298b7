"""The .tflite flatbuffer as objects, and what is read from it.

Schema: tensorflow/lite/schema/schema.fbs, by the object API that ai_edge_litert ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError, ExportError
from targets.files import read_bytes
from targets.formats.tflite_sparse import SparseTensor, dense
from targets.formats.tflite_sparsity import sparse_tensor
from targets.metadata import KEY, ArtifactMetadata, read_metadata
from targets.runtimes.litert import IDENTIFIER, litert_module

NO_TENSOR = -1
# Operators with weights, their second operand.
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_DTYPES: Mapping[str, type[np.generic]] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


def schema() -> Any:
    """The generated module of schema classes and enumerations."""
    return litert_module("schema_py_generated", "the .tflite format", "tflite")


@cache
def names_of(enumeration: str) -> dict[int, str]:
    """{value: name} of one of the schema's enumerations."""
    found = vars(getattr(schema(), enumeration))
    return {value: name for name, value in found.items() if isinstance(value, int)}


def tflite_metadata(path: Path) -> ArtifactMetadata | None:
    """What `path` says of its net, or None for a file that is not of edgepress."""
    content = read_bytes(path, "a .tflite file")
    if content[4:8] != IDENTIFIER:
        raise DataError(f"{path} is no .tflite file: it does not say {IDENTIFIER.decode()}")
    reader = schema()  # outside: a missing package is no damage
    try:
        model = reader.Model.GetRootAs(content, 0)
        entries = [model.Metadata(i) for i in range(model.MetadataLength())]
        own = [entry for entry in entries if entry.Name() == KEY.encode()]
        text = None if not own else model.Buffers(own[0].Buffer()).DataAsNumpy().tobytes().decode()
    # Offsets of a damaged file lead anywhere; the reader answers with whatever it stumbles over.
    except Exception as error:
        raise DataError(f"{path} is damaged: {type(error).__name__} in its metadata") from error
    return None if text is None else read_metadata(text)


class Source:
    """A model to read from: its only subgraph's operators and tensors, by kind and by value."""

    def __init__(self, content: bytes) -> None:
        self.model: Any = schema().ModelT.InitFromPackedBuf(content, 0)
        if len(self.model.subgraphs) != 1:
            raise ExportError(
                f"the net became {len(self.model.subgraphs)} TFLite subgraphs; one without "
                f"control flow is needed"
            )
        graph = self.model.subgraphs[0]
        self.tensors: list[Any] = graph.tensors
        self.operators: list[Any] = graph.operators
        self.inputs = [int(i) for i in graph.inputs]
        self.outputs = [int(i) for i in graph.outputs]
        self._constants: dict[int, NDArray[Any]] = {}

    def kind(self, operator: Any) -> str:
        """'CONV_2D', ... ExportError for a custom operator, which stock runtimes lack."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        kind = names_of("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind == "CUSTOM":
            raise ExportError(f"the net needs the custom operator {code.customCode!r}")
        return kind

    def version(self, operator: Any) -> int:
        return int(self.model.operatorCodes[operator.opcodeIndex].version)

    def shape(self, index: int) -> tuple[int, ...]:
        found = self.tensors[index].shape
        return () if found is None else tuple(int(size) for size in found)

    def constant(self, index: int) -> NDArray[Any] | None:
        """The value of a constant tensor, all its zeros there, or None for an activation."""
        tensor = self.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None:
            return None
        if index not in self._constants:
            values = data.view(_DTYPES[names_of("TensorType")[tensor.type]])
            sparse = self._sparse(index, values)
            whole = values.reshape(self.shape(index)) if sparse is None else dense(sparse)
            self._constants[index] = whole
        return self._constants[index]

    def _sparse(self, index: int, values: NDArray[Any]) -> SparseTensor | None:
        """A sparse tensor with these `values`; None for a dense one."""
        found = self.tensors[index].sparsity
        return None if found is None else sparse_tensor(found, self.shape(index), values)
