"""A .tflite model in the making: tensors and operators are added, `finish` gives the bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.formats.tflite_schema import NO_TENSOR, schema
from targets.metadata import KEY
from targets.runtimes.litert import IDENTIFIER

# Kernels load weights by vector instructions, and the schema promises them 16-byte addresses.
_ALIGNMENT = 16
# The schema promises 4-byte addresses for the indices of sparse tensors, of 16 bits too.
_INDICES = 4
_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Quantization:
    """scale float32 and zero_point int64, one for each channel of `axis`, or one for all."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int = 0


@dataclass
class Sketch:
    """A model in the making: tensors and operators are added, `finish` gives the bytes."""

    tensors: list[Any] = field(default_factory=list[Any])
    operators: list[Any] = field(default_factory=list[Any])
    codes: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    buffers: list[NDArray[np.uint8] | None] = field(
        default_factory=lambda: [None]  # buffer 0 is the empty one, by the schema
    )

    def tensor(
        self,
        name: str,
        shape: Iterable[int],
        dtype: str,
        data: NDArray[Any] | None = None,
        quantization: Quantization | None = None,
        sparsity: Any = None,
    ) -> int:
        """Add a tensor (dtype 'FLOAT32', 'INT8', ...); a constant where `data` is given.

        `sparsity`: the schema's SparsityParametersT, by which `data` holds only some elements.
        """
        made = schema().TensorT()
        made.name = name
        made.shape = np.array(list(shape), np.int32)
        made.type = getattr(schema().TensorType, dtype)
        made.hasRank = True
        if data is not None:
            made.buffer = len(self.buffers)
            self.buffers.append(np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8))
        if quantization is not None:
            made.quantization = schema().QuantizationParametersT()
            made.quantization.scale = quantization.scale.astype(np.float32)
            made.quantization.zeroPoint = quantization.zero_point.astype(np.int64)
            made.quantization.quantizedDimension = quantization.axis
        made.sparsity = sparsity
        self.tensors.append(made)
        return len(self.tensors) - 1

    def shape(self, index: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self.tensors[index].shape)

    def operator(
        self,
        kind: str,
        version: int,
        inputs: Iterable[int],
        outputs: Iterable[int],
        options: tuple[str, Any] | None = None,
    ) -> None:
        """Add an operator; `options` is ('Conv2DOptions', the object), None for none."""
        made = schema().OperatorT()
        made.opcodeIndex = self.codes.setdefault((kind, version), len(self.codes))
        made.inputs = np.array(list(inputs), np.int32)
        made.outputs = np.array(list(outputs), np.int32)
        if options is not None:
            made.builtinOptionsType = getattr(schema().BuiltinOptions, options[0])
            made.builtinOptions = options[1]
        self.operators.append(made)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: str) -> bytes:
        """The file's bytes, without what no output needs; `metadata` stands under its key."""
        self._drop_unread([*inputs.values()], [*outputs.values()])
        for name, index in (*inputs.items(), *outputs.items()):
            self.tensors[index].name = name
        api = schema()
        used = {i for op in self.operators for i in (*op.inputs, *op.outputs)} - {NO_TENSOR}
        used |= {*inputs.values(), *outputs.values()}
        kept = sorted(used)
        place = {old: new for new, old in enumerate(kept)} | {NO_TENSOR: NO_TENSOR}
        model = api.ModelT()
        model.version = 3
        model.description = "edgepress"
        model.buffers = [api.BufferT()]
        graph = api.SubGraphT()
        graph.name = "net"
        graph.tensors = [self.tensors[old] for old in kept]
        for tensor in graph.tensors:
            if tensor.buffer:
                model.buffers.append(_buffer(self.buffers[tensor.buffer]))
                tensor.buffer = len(model.buffers) - 1
        for operator in self.operators:
            operator.inputs = np.array([place[i] for i in operator.inputs], np.int32)
            operator.outputs = np.array([place[i] for i in operator.outputs], np.int32)
        graph.operators = self.operators
        graph.inputs = np.array([place[i] for i in inputs.values()], np.int32)
        graph.outputs = np.array([place[i] for i in outputs.values()], np.int32)
        model.subgraphs = [graph]
        model.operatorCodes = self._operator_codes()
        model.signatureDefs = [_signature(inputs, outputs, place)]
        entry = api.MetadataT()
        entry.name, entry.buffer = KEY, len(model.buffers)
        model.buffers.append(_buffer(np.frombuffer(metadata.encode(), np.uint8)))
        model.metadata = [entry]
        return _packed(model)

    def _drop_unread(self, inputs: list[int], outputs: list[int]) -> None:
        needed = {*inputs, *outputs}
        kept: list[Any] = []
        for operator in reversed(self.operators):
            if needed & set(operator.outputs.tolist()):
                needed |= set(operator.inputs.tolist())
                kept.append(operator)
        self.operators = kept[::-1]

    def _operator_codes(self) -> list[Any]:
        """The codes in use, numbered anew in their first use's order."""
        api = schema()
        names = {index: key for key, index in self.codes.items()}
        order = {
            old: new for new, old in enumerate(dict.fromkeys(o.opcodeIndex for o in self.operators))
        }
        made: list[Any] = []
        for old in order:
            kind, version = names[old]
            code = api.OperatorCodeT()
            code.builtinCode = getattr(api.BuiltinOperator, kind)
            # Runtimes before builtinCode was widened read the old field; 127 says "see there".
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            made.append(code)
        for operator in self.operators:
            operator.opcodeIndex = order[operator.opcodeIndex]
        return made


def _buffer(data: NDArray[np.uint8] | None) -> Any:
    made = schema().BufferT()
    made.data = data
    return made


def _signature(
    inputs: Mapping[str, int], outputs: Mapping[str, int], place: Mapping[int, int]
) -> Any:
    api = schema()

    def ends(named: Mapping[str, int]) -> list[Any]:
        made: list[Any] = []
        for name, index in named.items():
            entry = api.TensorMapT()
            entry.name, entry.tensorIndex = name, place[index]
            made.append(entry)
        return made

    signature = api.SignatureDefT()
    signature.signatureKey = _SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs, signature.outputs = ends(inputs), ends(outputs)
    return signature


def _packed(model: Any) -> bytes:
    """The model as bytes, byte vectors (buffers) on 16-byte addresses.

    Equal vectors of larger elements stand in the file once, and all who have them point there, as
    a flatbuffer's may: the zero points of weights and biases, 8 bytes for each channel and all
    zero, were 7 % of MobileNetV2's file.
    """
    import flatbuffers  # comes with ai_edge_litert's schema

    class Compact(flatbuffers.Builder):
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
            wanted = _ALIGNMENT if elemSize == 1 else max(alignment, _INDICES)
            return int(super().StartVector(elemSize, numElems, wanted))

        def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802
            if x.itemsize == 1:
                return int(super().CreateNumpyVector(x))
            key = (x.dtype.str, x.tobytes())
            if key not in written:
                written[key] = int(super().CreateNumpyVector(x))
            return written[key]

    written: dict[tuple[str, bytes], int] = {}
    builder = Compact(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
