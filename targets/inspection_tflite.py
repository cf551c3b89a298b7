"""What a .tflite file holds: operators, constants, and what it says of its net."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from compress.errors import DataError, one_line
from targets.files import read_bytes
from targets.formats.tflite_schema import Source, names_of, tflite_metadata
from targets.inspection import Inspection, TensorSummary, plain_summary, says
from targets.runtimes.litert import IDENTIFIER, litert_module
from targets.runtimes.tflite_bounds import is_whole


def inspect_tflite(path: Path) -> Inspection:
    """Needs ai_edge_litert's schema (MissingExtraError); DataError for what is no such file."""
    content = read_bytes(path, "a .tflite file")
    if content[4:8] != IDENTIFIER or not is_whole(content):
        raise DataError(f"{path} is no whole .tflite file; export it anew")
    litert_module("schema_py_generated", f"inspecting {path}")  # says what to install
    found = tflite_metadata(path)
    try:
        source = Source(content)
        tensors = _constants(source)
        operators = Counter(source.kind(operator) for operator in source.operators)
        inputs = tuple(_described(source, index) for index in source.inputs)
        outputs = tuple(_described(source, index) for index in source.outputs)
    except DataError:
        raise
    # Offsets of a damaged file lead anywhere; the reader answers with whatever it stumbles over.
    except Exception as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); export it anew") from error
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.file_bytes
    return Inspection(
        path=str(path),
        format="tflite",
        file_bytes=len(content),
        precision="int8" if "int8" in " ".join(inputs) or "int8" in sizes else "fp32",
        tensors=tensors,
        parts={**sizes, "graph": len(content) - sum(sizes.values())},
        operators=dict(operators.most_common()),
        inputs=inputs,
        outputs=outputs,
        says=says(found),
    )


def _constants(source: Source) -> tuple[TensorSummary, ...]:
    """Constants in the file's order; a buffer that several tensors share counts once."""
    found: list[TensorSummary] = []
    seen: set[int] = set()
    for index, tensor in enumerate(source.tensors):
        values = source.constant(index)
        if values is not None:
            size = 0 if tensor.buffer in seen else values.nbytes
            seen.add(tensor.buffer)
            found.append(plain_summary(tensor.name.decode(), values, size))
    return tuple(found)


def _described(source: Source, index: int) -> str:
    tensor = source.tensors[index]
    kind = names_of("TensorType")[tensor.type].lower()
    return f"{tensor.name.decode()} {kind} {list(source.shape(index))}"
