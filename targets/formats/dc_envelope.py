"""The Deep Compression container's envelope: a safetensors file of four byte arrays.

    about    deflated canonical JSON: version, spec, edits, grids of activations, settings
    index    deflated: one record for each tensor, sorted by name (dc_tensor.py)
    payload  the tensors' bytes, in the index's order
    graph    optional: an .onnx without its weights, deflated (dc_skeleton.py)

safetensors brings no pickle and validated offsets. Equal candidates give equal bytes. This module
needs numpy and safetensors, not torch: `read_state` decodes every tensor.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from compress.atomic import write_bytes
from compress.encoding import Encoding
from compress.errors import ContainerError
from targets.formats.dc_tensor import (
    MAX_ELEMENTS,
    Record,
    decode_tensor,
    encode_tensor,
    read_record,
    write_record,
)

VERSION = 1
_LIMIT_BYTES = 64 << 20  # of what is inflated: about, index, graph
_PARTS = ("about", "index", "payload")


@dataclass(frozen=True, eq=False)
class Container:
    """A container's parts, read and bounded but not yet decoded."""

    about: Mapping[str, Any]
    records: tuple[Record, ...]
    payload: memoryview
    graph: bytes | None

    def decode(self) -> Iterator[tuple[str, NDArray[Any], Encoding | None]]:
        """(name, array, encoding) of each tensor in turn: one is decoded at a time."""
        offset = 0
        for record in self.records:
            end = offset + record.payload_bytes
            yield (record.name, *decode_tensor(record, self.payload[offset:end]))
            offset = end


def write_container(
    path: Path,
    about: Mapping[str, Any],
    tensors: Mapping[str, tuple[NDArray[Any], Encoding | None]],
    graph: bytes | None = None,
) -> None:
    """Write `path` whole or not at all; equal arguments give equal bytes."""
    coded = [encode_tensor(name, *tensors[name]) for name in sorted(tensors)]
    text = json.dumps({**about, "container": VERSION}, sort_keys=True, separators=(",", ":"))
    parts = {
        "about": zlib.compress(text.encode(), 9),
        "index": zlib.compress(b"".join(write_record(record) for record, _ in coded), 9),
        "payload": b"".join(payload for _, payload in coded),
    }
    if graph is not None:
        parts["graph"] = zlib.compress(graph, 9)
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in parts.items()}
    write_bytes(path, save(arrays))


def read_container(path: Path) -> Container:
    """Read and bound a container. Raises ContainerError, one line, for anything amiss."""
    if not path.is_file():
        raise ContainerError(f"{path} does not exist; give a .dc file")
    try:
        arrays = load(path.read_bytes())
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ContainerError(f"{path} is not a container: {error}") from error
    if not set(_PARTS) <= set(arrays) or any(a.dtype != np.uint8 for a in arrays.values()):
        raise ContainerError(
            f"{path} holds {', '.join(sorted(arrays)[:4]) or 'nothing'}; a Deep Compression "
            f"container holds {', '.join(_PARTS)}"
        )
    payload = memoryview(arrays["payload"].tobytes())
    about = _about(_inflate(arrays["about"], "about"))
    records = _records(_inflate(arrays["index"], "index"), len(payload))
    graph = _inflate(arrays["graph"], "graph") if "graph" in arrays else None
    return Container(about, records, payload, graph)


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a container by name, decoded without torch."""
    return {name: array for name, array, _ in read_container(path).decode()}


def _inflate(data: NDArray[np.generic], what: str) -> bytes:
    """Inflate with a bound, so that a small file cannot fill the memory."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data.tobytes(), _LIMIT_BYTES)
    except zlib.error as error:
        raise ContainerError(f"container part {what!r} is damaged: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise ContainerError(f"container part {what!r} is cut off, too long or has a tail")
    return text


def _about(text: bytes) -> Mapping[str, Any]:
    try:
        about = json.loads(text)
        version = about["container"]
    except (ValueError, KeyError, TypeError) as error:
        raise ContainerError(f"container part 'about' is damaged: {error!r}") from error
    if version != VERSION:
        raise ContainerError(f"container has version {version}; {VERSION} is readable")
    return about


def _records(index: bytes, payload_bytes: int) -> tuple[Record, ...]:
    view = memoryview(index)
    records: list[Record] = []
    offset = elements = used = 0
    while offset < len(view):
        record, offset = read_record(view, offset)
        if records and record.name <= records[-1].name:
            raise ContainerError("index is damaged: names are not in order")
        records.append(record)
        elements += record.size
        used += record.payload_bytes
        if elements > MAX_ELEMENTS or used > payload_bytes:
            raise ContainerError(
                f"index is damaged: {elements} elements in {used} of {payload_bytes} bytes"
            )
    if used != payload_bytes:
        raise ContainerError(f"payload has {payload_bytes} bytes; the index accounts for {used}")
    return tuple(records)
