"""Which tensor of a file is which tensor of the candidate: told by what they compute.

Converters rename, fuse, transpose and drop tensors, and change how they do so from version to
version. Values do not lie: run on the same pictures, a file's tensor is the candidate's tensor
whose values it holds, in whatever layout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from compress.graph import TensorId

FloatArray = NDArray[np.float32]
# The input of a hard sigmoid may be hundreds of times larger than what comes out, and so may be
# its rounding.
_LOOSER: Mapping[str, float] = {"hardsigmoid": 100.0}


def match_tensors(
    references: Mapping[TensorId, FloatArray],
    tensors: Mapping[str, FloatArray],
    tolerance: float = 1e-4,
) -> dict[str, TensorId]:
    """{file's tensor: candidate's tensor} for all whose sorted values agree.

    Agreement is to `tolerance` times the reference's largest magnitude, 100 times that for hard
    sigmoids. Where several references agree (a reshape holds its input's values) the first in
    `references`' order of best agreement wins; such tensors share one grid. Constant references
    identify nothing and are passed over.
    """
    sorted_references = {
        name: np.sort(values, axis=None)
        for name, values in references.items()
        if values.size and values.min() != values.max()
    }
    found: dict[str, TensorId] = {}
    for name, values in tensors.items():
        own = np.sort(values.astype(np.float32), axis=None)
        best = np.inf
        for tensor, reference in sorted_references.items():
            if reference.size != own.size:
                continue
            scale = float(np.abs(reference).max())
            error = float(np.abs(reference - own).max()) / scale
            allowed = tolerance * _LOOSER.get(tensor.operator, 1.0)
            if error <= allowed and error < best:
                found[name], best = tensor, error
    return found
