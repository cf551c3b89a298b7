"""Which parameter of the net a constant of an ONNX graph holds: told by its values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from compress.encoding import Encoded


def parameter_of(tensor: onnx.TensorProto, known: Mapping[str, Encoded]) -> tuple[str, bool] | None:
    """(parameter, transposed?) whose values `tensor` holds; names break ties only.

    The order of `known` does not matter: a container gives its encodings in another.
    """
    values = numpy_helper.to_array(tensor)
    alike = [name for name in known if known[name].indices.size == values.size]
    for name in sorted(alike, key=lambda name: (name != tensor.name, name)):
        decoded = known[name].decode()
        if np.array_equal(decoded, values):
            return name, False
        if decoded.ndim == 2 and np.array_equal(decoded.T, values):
            return name, True
    return None
