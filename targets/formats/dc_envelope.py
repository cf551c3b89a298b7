"""The Deep Compression container, version 2: one file, read whole, checked before it is believed.

    bytes 0-3   b"edc" and the version
    bytes 4-7   CRC-32 of all that follows, little-endian
    bytes 8-15  the first 8 bytes of the candidate's digest
    varint      bytes of the head; the head (dc_head.py)
    varint      bytes of the graph, 0 for none; the graph: an .onnx without its weights, deflated
                (dc_skeleton.py)
    the rest    payload: the tensors' bytes, in the index's order (dc_tensor.py)

Equal candidates give equal bytes (with the same zlib). Version 1 is read too (dc_v1.py). This
module needs numpy, not torch: `read_state` decodes every tensor.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compress.atomic import write_parts
from compress.coding import compiled
from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.encoding import Encoding
from compress.errors import ContainerError, ExportError
from targets.formats.dc_head import deflate, inflate, pack_head, unpack_head
from targets.formats.dc_record import (
    MAX_ELEMENTS,
    MAX_TENSORS,
    Record,
    read_records,
    write_names,
    write_records,
)
from targets.formats.dc_tensor import TensorBytes, decode_tensor, encode_tensor, measure_tensor
from targets.formats.dc_v1 import is_v1, read_v1

# Goes up with any change of what is written, so that a golden file's bytes stay true.
VERSION = 2
MAGIC = b"edc"
DIGEST_BYTES = 8
_FIXED_BYTES = 16
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, eq=False)
class Container:
    """A container's parts, read and bounded but not yet decoded. `source` is the file's path.

    about: what the file says of its net; `digest` there is the first 16 digits of the candidate's
    (version 1: all 64). payloads: the bytes of each record's tensor.
    """

    source: str
    version: int
    about: Mapping[str, Any]
    records: tuple[Record, ...]
    payloads: tuple[memoryview, ...]
    graph: bytes | None
    part_bytes: Mapping[str, int]

    def decode(self) -> Iterator[tuple[str, NDArray[Any], Encoding | None]]:
        """(name, array, encoding) of each tensor in turn: one is decoded at a time."""
        for place in range(len(self.records)):
            yield self.tensor(place)

    def tensor(self, place: int) -> tuple[str, NDArray[Any], Encoding | None]:
        """(name, array, encoding) of the tensor of records[place]."""
        record = self.records[place]
        compiled.expect(self._elements)
        try:
            return (record.name, *decode_tensor(record, self.payloads[place]))
        except ContainerError as error:
            raise amiss(self.source, error) from error

    @functools.cached_property
    def _elements(self) -> int:
        return sum(record.size for record in self.records)

    def measure(self) -> Iterator[tuple[Record, TensorBytes]]:
        """What each tensor's bytes are spent on."""
        for record, payload in zip(self.records, self.payloads, strict=True):
            try:
                yield record, measure_tensor(record, payload)
            except ContainerError as error:
                raise amiss(self.source, error) from error


def write_container(
    path: Path,
    about: Mapping[str, Any],
    tensors: Mapping[str, tuple[NDArray[Any], Encoding | None]],
    graph: bytes | None = None,
    quick: bool = False,
) -> None:
    """Write `path` whole or not at all; equal arguments give equal bytes.

    about: with the candidate's whole `digest`. quick: to decode, rather than small. Raises
    ExportError for what `read_container` would refuse.
    """
    coded = [encode_tensor(name, *tensors[name], quick) for name in sorted(tensors)]
    records = [record for record, _ in coded]
    elements = sum(record.size for record in records)
    if len(coded) > MAX_TENSORS or elements > MAX_ELEMENTS:
        raise ExportError(
            f"{len(coded)} tensors of {elements:,} elements do not fit a container: at most "
            f"{MAX_TENSORS:,} and {MAX_ELEMENTS:,}"
        )
    described = {name: value for name, value in about.items() if name != "digest"}
    head = pack_head(described, write_names(records), write_records(records))
    packed = b"" if graph is None else deflate(graph, "graph")
    digest = bytes.fromhex(about["digest"])[:DIGEST_BYTES]
    parts = (write_varint(len(head)), head, write_varint(len(packed)), packed)
    body = (digest, *parts, *(payload for _, payload in coded))
    checksum = functools.reduce(lambda sum_, part: zlib.crc32(part, sum_), body, 0)
    write_parts(path, (MAGIC, bytes([VERSION]), checksum.to_bytes(4, "little"), *body))


def read_container(path: Path) -> Container:
    """Read and bound a container. Raises ContainerError, one line, for anything amiss."""
    if not path.is_file():
        raise ContainerError(f"{path} does not exist or is no file; give a .dc file")
    try:
        data = path.read_bytes()
        return _opened(str(path), data)
    except (ContainerError, OSError) as error:
        raise amiss(str(path), error) from error


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a container by name, decoded without torch."""
    container = read_container(path)
    # The encodings are let go at once: they take a quarter of a tensor.
    return {r.name: container.tensor(place)[1] for place, r in enumerate(container.records)}


def amiss(source: str, error: object) -> ContainerError:
    """A ContainerError that names the file, in one line of bounded length."""
    text = " ".join(str(error).split())
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]} ..."
    return ContainerError(text if text.startswith(source) else f"{source}: {text}")


def _opened(source: str, data: bytes) -> Container:
    if is_v1(data) and data[:3] != MAGIC:
        old = read_v1(data)
        return Container(source, 1, old.about, old.records, old.payloads, old.graph, old.part_bytes)
    view = memoryview(data)
    _check_fixed(view)
    cursor = Cursor(view[_FIXED_BYTES:], "its bytes")
    head = cursor.take(cursor.varint())
    packed = cursor.take(cursor.varint())
    payload = cursor.rest()
    about, names, columns = unpack_head(head)
    records = read_records(names, columns, len(payload))
    ends = itertools.accumulate((record.payload_bytes for record in records), initial=0)
    sizes = {"head": len(head), "payload": len(payload)}
    if packed:
        sizes["graph"] = len(packed)
    return Container(
        source,
        VERSION,
        {**about, "digest": bytes(view[8:_FIXED_BYTES]).hex()},
        records,
        tuple(payload[a:b] for a, b in itertools.pairwise(ends)),
        inflate(packed, "graph") if packed else None,
        sizes,
    )


def _check_fixed(view: memoryview) -> None:
    if len(view) < _FIXED_BYTES or bytes(view[:3]) != MAGIC:
        raise ContainerError(
            f"is no Deep Compression container: it has {len(view)} bytes and begins with "
            f"{bytes(view[:4])!r}, a container with {MAGIC!r}; give a .dc file"
        )
    if view[3] != VERSION:
        raise ContainerError(
            f"container of version {view[3]}; 1 and {VERSION} are readable: update edgepress"
        )
    if zlib.crc32(view[8:]) != int.from_bytes(view[4:8], "little"):
        raise ContainerError("is damaged or cut off: its checksum differs; get the file again")
