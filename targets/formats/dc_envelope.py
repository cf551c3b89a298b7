"""The Deep Compression container's envelope: a safetensors file of up to four byte arrays.

    about    deflated canonical JSON: version, spec, edits, grids of activations, settings, digest
    index    deflated: one record for each tensor, sorted by name (dc_record.py)
    payload  the tensors' bytes, in the index's order (dc_tensor.py)
    graph    optional: an .onnx without its weights, deflated (dc_skeleton.py)

safetensors brings no pickle and validated offsets. Equal candidates give equal bytes (with the
same zlib). This module needs numpy and safetensors, not torch: `read_state` decodes every tensor.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from compress.atomic import write_bytes
from compress.encoding import Encoding
from compress.errors import ContainerError, ExportError
from targets.formats.dc_record import MAX_ELEMENTS, Record, read_record, write_record
from targets.formats.dc_tensor import decode_tensor, encode_tensor

# Goes up with any change of what is written, so that a golden file's bytes stay true.
VERSION = 1
MAX_TENSORS = 1 << 16
# Bytes after inflating. 'about' and 'index' become Python objects of many times their size.
LIMITS = {"about": 4 << 20, "index": 4 << 20, "graph": 16 << 20}
_NEEDED = {"about", "index", "payload"}
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, eq=False)
class Container:
    """A container's parts, read and bounded but not yet decoded. `source` is the file's path."""

    source: str
    about: Mapping[str, Any]
    records: tuple[Record, ...]
    payload: memoryview
    graph: bytes | None
    part_bytes: Mapping[str, int]

    def decode(self) -> Iterator[tuple[str, NDArray[Any], Encoding | None]]:
        """(name, array, encoding) of each tensor in turn: one is decoded at a time."""
        offset = 0
        for record in self.records:
            end = offset + record.payload_bytes
            try:
                yield (record.name, *decode_tensor(record, self.payload[offset:end]))
            except ContainerError as error:
                raise amiss(self.source, error) from error
            offset = end


def write_container(
    path: Path,
    about: Mapping[str, Any],
    tensors: Mapping[str, tuple[NDArray[Any], Encoding | None]],
    graph: bytes | None = None,
) -> None:
    """Write `path` whole or not at all; equal arguments give equal bytes.

    Raises ExportError for what `read_container` would refuse.
    """
    coded = [encode_tensor(name, *tensors[name]) for name in sorted(tensors)]
    elements = sum(record.size for record, _ in coded)
    if len(coded) > MAX_TENSORS or elements > MAX_ELEMENTS:
        raise ExportError(
            f"{len(coded)} tensors of {elements:,} elements do not fit a container: at most "
            f"{MAX_TENSORS:,} and {MAX_ELEMENTS:,}"
        )
    parts = {
        "about": _deflate(canonical({**about, "container": VERSION}).encode(), "about"),
        "index": _deflate(b"".join(write_record(record) for record, _ in coded), "index"),
        "payload": b"".join(payload for _, payload in coded),
    }
    if graph is not None:
        parts["graph"] = _deflate(graph, "graph")
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in parts.items()}
    write_bytes(path, save(arrays))


def read_container(path: Path) -> Container:
    """Read and bound a container. Raises ContainerError, one line, for anything amiss."""
    if not path.is_file():
        raise ContainerError(f"{path} does not exist or is no file; give a .dc file")
    try:
        return _opened(str(path), path.read_bytes())
    except (ContainerError, OSError) as error:
        raise amiss(str(path), error) from error


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a container by name, decoded without torch."""
    return {name: array for name, array, _ in read_container(path).decode()}


def canonical(about: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal data give equal text."""
    return json.dumps(about, sort_keys=True, separators=(",", ":"))


def amiss(source: str, error: object) -> ContainerError:
    """A ContainerError that names the file, in one line of bounded length."""
    text = " ".join(str(error).split())
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]} ..."
    return ContainerError(text if text.startswith(source) else f"{source}: {text}")


def _opened(source: str, data: bytes) -> Container:
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ContainerError(f"is not a whole container ({error}); get the file again") from error
    known = _NEEDED <= set(arrays) <= {*_NEEDED, "graph"}
    if not known or any(a.dtype != np.uint8 or a.ndim != 1 for a in arrays.values()):
        held = ", ".join(f"{n} ({a.dtype}, {a.shape})" for n, a in sorted(arrays.items())[:4])
        raise ContainerError(
            f"holds {held or 'nothing'}; a Deep Compression container holds the bytes about, "
            f"index, payload and at most a graph: give such a file"
        )
    payload = memoryview(arrays["payload"].tobytes())
    about = _about(_inflate(arrays["about"], "about"))
    records = _records(_inflate(arrays["index"], "index"), len(payload))
    graph = _inflate(arrays["graph"], "graph") if "graph" in arrays else None
    sizes = {name: array.size for name, array in arrays.items()}
    return Container(source, about, records, payload, graph, sizes)


def _deflate(data: bytes, part: str) -> bytes:
    if len(data) > LIMITS[part]:
        raise ExportError(
            f"the container's part {part!r} takes {len(data):,} bytes; at most "
            f"{LIMITS[part]:,} are allowed: shorten names, or leave the graph out"
        )
    return zlib.compress(data, 9)


def _inflate(data: NDArray[np.generic], part: str) -> bytes:
    """Inflate with a bound, so that a small file cannot fill the memory."""
    inflater = zlib.decompressobj()
    limit = LIMITS[part]
    try:
        # One byte more than allowed, so that a stream of just the limit reaches its end.
        text = inflater.decompress(data.tobytes(), limit + 1)
    except zlib.error as error:
        raise ContainerError(f"part {part!r} is damaged ({error}); get the file again") from error
    if len(text) > limit:
        raise ContainerError(f"part {part!r} inflates to more than the allowed {limit:,} bytes")
    if not inflater.eof or inflater.unused_data:
        raise ContainerError(f"part {part!r} is cut off or has a tail; get the file again")
    return text


def _about(text: bytes) -> Mapping[str, Any]:
    try:
        about: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"part 'about' is damaged ({error}); get the file again") from error
    if not isinstance(about, dict):
        raise ContainerError("part 'about' is damaged (no JSON object); get the file again")
    known = cast("dict[str, Any]", about)
    version = known.get("container")
    if type(version) is not int or version != VERSION:
        raise ContainerError(
            f"container of version {version!r}; {VERSION} is readable: update edgepress"
        )
    return known


def _records(index: bytes, payload_bytes: int) -> tuple[Record, ...]:
    view = memoryview(index)
    records: list[Record] = []
    offset = elements = used = 0
    while offset < len(view):
        record, offset = read_record(view, offset)
        if records and record.name <= records[-1].name:
            raise ContainerError(
                f"index is damaged: {record.name!r} after {records[-1].name!r}, names must rise; "
                f"get the file again"
            )
        records.append(record)
        elements += record.size
        used += record.payload_bytes
        if len(records) > MAX_TENSORS or elements > MAX_ELEMENTS:
            raise ContainerError(
                f"index claims {len(records)} tensors of {elements:,} elements; at most "
                f"{MAX_TENSORS:,} and {MAX_ELEMENTS:,} are allowed"
            )
    if used != payload_bytes:
        raise ContainerError(
            f"index accounts for {used} bytes, the payload has {payload_bytes}; get the file again"
        )
    return tuple(records)
