"""Operators that give a packed weight back: DENSIFY for its zeros, DEQUANTIZE for its floats."""

from __future__ import annotations

from targets.formats.tflite_packing import Form
from targets.formats.tflite_schema import schema
from targets.formats.tflite_sketch import Sketch
from targets.formats.tflite_sparsity import sparsity_of

_TYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8"}
# The first versions of DEQUANTIZE for a type, and for a scale a channel:
# tensorflow/lite/tools/versioning/op_version.cc.
_DEQUANTIZE = {"float16": 3, "int8": 2}
_DEQUANTIZE_CHANNELS = 5


def add_unpacking(sketch: Sketch, name: str, form: Form) -> int:
    """Add a constant in that form; the tensor that holds its float32 values, of the same name.

    The order is the one that XNNPACK follows: it unpacks zeros first, then the type.
    """
    made = add_stored(sketch, name, form)
    dtype = form.values.dtype.name
    if dtype == "float32":
        return made
    several = form.grid is not None and form.grid.scale.size > 1
    version = _DEQUANTIZE_CHANNELS if several else _DEQUANTIZE[dtype]
    floats = sketch.tensor(name, form.values.shape, "FLOAT32")
    sketch.operator("DEQUANTIZE", version, [made], [floats])
    return floats


def add_stored(sketch: Sketch, name: str, form: Form) -> int:
    """Add a constant in that form; the tensor that holds all of its own numbers.

    Its grid stands there: nothing asks a sparse tensor for one, and it may have many channels.
    """
    shape, kind, sparse = form.values.shape, _TYPES[form.values.dtype.name], form.sparse
    if sparse is None:
        return sketch.tensor(name, shape, kind, form.values, form.grid)
    sparsity = sparsity_of(sparse, schema())
    packed = sketch.tensor(name, shape, kind, sparse.values, None, sparsity)
    whole = sketch.tensor(name, shape, kind, None, form.grid)
    sketch.operator("DENSIFY", 1, [packed], [whole])
    return whole
