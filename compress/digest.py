"""The digest that ties a report to its files, over plain data: files are checked without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.encoding import Encoding, encoding_arrays
from compress.tensor_id import TensorId

Tensors = Iterable[tuple[str, NDArray[np.generic], Encoding | None]]


def digest_of(about: Mapping[str, Any], tensors: Tensors) -> str:
    """SHA-256 of a net, hexadecimal, from its description and its tensors by rising name.

    about: `spec`, `edits`, `activations`, `ties`, `float_nodes` as checkpoint.describe gives them.
    """
    spec = json.dumps(about["spec"], sort_keys=True, separators=(",", ":"))
    sha = hashlib.sha256(spec.encode())
    sha.update(json.dumps(list(about["edits"]), sort_keys=True).encode())
    encodings: list[tuple[str, Encoding]] = []
    for name, array, encoding in tensors:
        _feed(sha, name, array)
        if encoding is not None:
            encodings.append((name, encoding))
    for name, encoding in encodings:
        for part, array in sorted(encoding_arrays(encoding).items()):
            _feed(sha, f"{name}/{part}", array)
    grids = {TensorId.parse(text): grid for text, grid in about["activations"].items()}
    for tensor in sorted(grids):
        sha.update(f"{tensor}={json.dumps(grids[tensor], sort_keys=True)}".encode())
    sha.update(json.dumps(about["ties"]).encode())
    sha.update(json.dumps(about["float_nodes"]).encode())
    return sha.hexdigest()


def _feed(sha: Any, name: str, array: NDArray[np.generic]) -> None:
    sha.update(f"{name}:{array.dtype}:{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
