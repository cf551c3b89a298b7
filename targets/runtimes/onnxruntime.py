"""onnxruntime on the CPU: loads .onnx files, scores them, and shows every tensor inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.affine import dequantize
from compress.errors import DataError, RangeError, one_line
from compress.spec import TensorSpec
from targets.files import read_bytes
from targets.runtimes.onnx_age import too_new

if TYPE_CHECKING:
    import onnx

FloatArray = NDArray[np.float32]
PROVIDER = "CPUExecutionProvider"
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class OnnxRuntime:
    """The engine. `optimize` False runs the graph as written, operator by operator."""

    name: ClassVar[str] = "onnxruntime"
    formats: ClassVar[tuple[str, ...]] = ("onnx", "onnx-packed")

    optimize: bool = True

    def load(self, path: Path, threads: int = 1) -> OnnxSession:
        """Open `path` with that many threads; DataError for what is missing, damaged, unknown."""
        content = read_bytes(path, "an .onnx file")
        return OnnxSession(content, str(path), threads, self.optimize, folder=path.parent)


class OnnxSession:
    """A loaded .onnx file with one float32 picture input, its batch fixed or free.

    `folder`: where the tensors lie that the file keeps beside it; None for a file that keeps none.
    """

    def __init__(
        self,
        content: bytes,
        source: str,
        threads: int = 1,
        optimize: bool = True,
        folder: Path | None = None,
    ) -> None:
        self._content = content
        self._source = source
        self._threads = threads
        self._optimize = optimize
        self._folder = folder
        self._engine = _open(content, source, threads, optimize, folder)
        self.provider = str(self._engine.get_providers()[0])
        self.inputs = tuple(_tensor_spec(value) for value in self._engine.get_inputs())
        self.outputs = tuple(_tensor_spec(value) for value in self._engine.get_outputs())
        if len(self.inputs) != 1 or self.inputs[0].dtype != "float32":
            found = ", ".join(f"{i.name}: {i.dtype}{list(i.shape)}" for i in self.inputs) or "none"
            raise DataError(f"{source} has the inputs {found}; one float32 input can be scored")

    def predict(self, batch: FloatArray) -> FloatArray:
        """float32 (N, C, H, W) -> float32 (N, ...), the file's first output."""
        name = self.outputs[0].name
        parts = [self._engine.run([name], feed)[0] for feed in self._feeds(batch)]
        if not parts:
            return np.zeros((0, *self.outputs[0].shape[1:]), np.float32)
        return np.concatenate(parts).astype(np.float32, copy=False)

    def tensors(self, batch: FloatArray) -> dict[str, FloatArray]:
        """Every activation tensor by the file's name, in the file's order; the input first.

        Tensors on an integer grid come as the real values that their integers stand for. A tensor
        that is quantized at once is left out: kernels that fuse it never hold its float value.
        """
        names, grids = self._inner
        engine = self._opened_wide
        runs = [engine.run(names, feed) for feed in self._feeds(batch)]
        found: dict[str, FloatArray] = {self.inputs[0].name: batch}
        for position, name in enumerate(names):
            values = np.concatenate([run[position] for run in runs])
            if name in grids:
                shown, scale, zero_point = grids[name]
                found[shown] = dequantize(values, scale, zero_point)
            elif np.issubdtype(values.dtype, np.floating):
                found[name] = values.astype(np.float32, copy=False)
        return found

    def _feeds(self, batch: FloatArray) -> list[dict[str, FloatArray]]:
        wanted = self.inputs[0].shape
        if batch.ndim != len(wanted) or batch.shape[1:] != wanted[1:]:
            raise DataError(
                f"{self._source} takes pictures of shape {wanted[1:]}; got {batch.shape[1:]}"
            )
        size = wanted[0]
        if len(batch) % size:
            raise DataError(f"{self._source} takes {size} pictures at a time; got {len(batch)}")
        whole = np.ascontiguousarray(batch, dtype=np.float32)
        return [
            {self.inputs[0].name: whole[start : start + size]}
            for start in range(0, len(whole), size)
        ]

    @cached_property
    def _inner(self) -> tuple[list[str], dict[str, tuple[str, np.float32, int]]]:
        import onnx

        return _inner_tensors(onnx.load_from_string(self._content))

    @cached_property
    def _opened_wide(self) -> Any:
        """A second engine whose outputs are all inner tensors."""
        import onnx

        model = onnx.load_from_string(self._content)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._inner[0])
        wide = model.SerializeToString()
        return _open(wide, self._source, self._threads, self._optimize, self._folder)


def _inner_tensors(
    model: onnx.ModelProto,
) -> tuple[list[str], dict[str, tuple[str, np.float32, int]]]:
    """Tensors to show, and for integer ones {name: (float tensor, scale, zero point)}.

    The integers before a DequantizeLinear are shown, not the float behind it: a graph output
    there would keep the engine from fusing, and other kernels than usual would be looked at.
    What is computed of constants alone (the weights of a packed file) is not shown.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    fixed = {"", *constants}  # "" is an optional input that is not given
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    names: list[str] = []
    grids: dict[str, tuple[str, np.float32, int]] = {}
    ends = {value.name for value in graph.output}
    for node in graph.node:
        if fixed.issuperset(node.input):
            fixed.update(node.output)
        elif node.op_type == "DequantizeLinear":
            source, scale, *rest = node.input
            if scale not in constants or constants[scale].dims:
                continue
            zero = int(numpy_helper.to_array(constants[rest[0]])) if rest else 0
            grids[source] = (
                node.output[0],
                np.float32(numpy_helper.to_array(constants[scale])),
                zero,
            )
            names.append(source)
        elif node.op_type != "QuantizeLinear":
            # A tensor with one reader, which quantizes it, lives inside a fused kernel.
            fused = {"QuantizeLinear"}
            names += [n for n in node.output if n in ends or set(readers.get(n, [])) - fused]
    return list(dict.fromkeys(names)), grids


def _open(
    content: bytes,
    source: str,
    threads: int,
    optimize: bool,
    folder: Path | None = None,
    exact: bool = True,
) -> Any:
    """An InferenceSession: quiet, in order, without spinning threads where one is asked for."""
    import onnxruntime as engine  # pyright: ignore[reportMissingTypeStubs]

    if threads < 1:
        raise RangeError(f"{threads} threads: at least 1 is allowed")
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = engine.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    levels = engine.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if threads == 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact and _sums_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if folder is not None:  # else tensors beside the file are looked for in the working directory
        options.add_session_config_entry(_DATA_FOLDER, str(folder))
    try:
        return engine.InferenceSession(content, options, providers=[PROVIDER], enable_fallback=0)
    except Exception as error:  # the engine's own exception types share no base class
        newer = too_new(content, str(engine.__version__), str(error))
        if newer is not None:
            raise DataError(f"{source} {newer}") from error
        raise DataError(f"onnxruntime cannot load {source}: {one_line(error)}") from error


@cache
def _sums_saturate() -> bool:
    """True where this processor's uint8 x int8 kernels saturate: x86 with neither VNNI nor AMX.

    They add pairs of products in int16 there. The engine has a mode without that, but it halves
    the speed of processors that need none: so a product of largest numbers is tried once.
    """
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((64, 64), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [64, 64])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    engine = _open(model.SerializeToString(), "the trial", 1, True, exact=False)
    (sums,) = engine.run(None, {"x": np.full((64, 64), 255, np.uint8)})
    return bool((sums != 64 * 255 * 127).any())


def _tensor_spec(value: Any) -> TensorSpec:
    """A free dimension (batch) counts as 1."""
    shape = tuple(size if isinstance(size, int) else 1 for size in value.shape)
    dtype = str(value.type).removeprefix("tensor(").removesuffix(")")
    return TensorSpec(
        str(value.name),
        shape,
        {"float": "float32", "double": "float64"}.get(dtype, dtype),
        "NCHW" if len(shape) == 4 else "NC",
    )


def all_tensors(model: onnx.ModelProto, batch: FloatArray) -> Mapping[str, FloatArray]:
    """Every float tensor of `model`, computed as written, nothing fused."""
    return OnnxSession(model.SerializeToString(), "the model", 1, optimize=False).tensors(batch)


def constant_outputs(model: onnx.ModelProto, source: str) -> dict[str, NDArray[Any]]:
    """The outputs of a model without inputs, by name, on one thread, operator by operator.

    `source`: the file that it is a part of. DataError where the engine cannot compute them.
    """
    engine = _open(model.SerializeToString(), source, 1, optimize=False, exact=False)
    names = [str(value.name) for value in model.graph.output]
    try:
        return dict(zip(names, engine.run(names, {}), strict=True))
    except Exception as error:  # as in _open
        raise DataError(f"onnxruntime cannot decode {source}: {one_line(error)}") from error
