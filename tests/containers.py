"""Small candidates in containers, and containers taken apart and put together wrongly."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import ActivationQuant, Candidate, Step
from compress.coding.bits import write_varint
from compress.coding.cursor import Cursor
from compress.edit import Factorized, rebuild
from compress.encoding import Encoded, Encoding, Masked, int8_codebook
from compress.graph import TensorId
from compress.models.lenet import lenet300_spec
from compress.network import TorchNetwork
from targets.formats.dc_envelope import DIGEST_BYTES, MAGIC, VERSION, write_container
from targets.formats.dc_head import DICTIONARY, deflate, inflate
from targets.formats.dc_record import Record, read_records, write_names, write_records
from targets.formats.deep_compression import _about

Json = Any


def sparse_lenet(*, grids: bool = False) -> Candidate:
    """LeNet-300-100, factorized, almost all zero, one weight of each form: a 2 kB container.

    Made by arithmetic alone, so that it is the same everywhere and forever.
    """
    edits = (Factorized("fc2", 3),)
    spec = lenet300_spec()
    model = rebuild(spec, edits)
    values = {name: np.zeros(tuple(t.shape), np.float32) for name, t in model.state_dict().items()}
    values["fc3.bias"] = np.arange(10, dtype=np.float32) / 8 - 0.5
    network = TorchNetwork(model, spec.input_shape).with_parameters(values)
    mask = np.zeros((300, 784), np.bool_)
    mask.flat[np.arange(40) ** 3 * 3] = True
    values["fc1.weight"].flat[np.arange(1, 40) ** 3 * 3] = np.arange(1, 40) / 64
    indices = np.zeros((3, 300), np.uint8)
    indices.flat[np.arange(0, 900, 17)] = np.arange(53) % 5
    shared = Encoded(indices, np.float32([0, -0.5, 0.25, 0.75, 1.5]), np.ones(1, np.float32))
    codes = (np.arange(1000).reshape(10, 100) % 97 == 3) * (np.arange(1000).reshape(10, 100) % 255)
    scale = ((np.arange(10) + 1) / 256).astype(np.float32)
    full = Encoded(codes.astype(np.uint8), int8_codebook(), scale, 0)
    candidate = Candidate(spec, network, edits=edits)
    candidate = candidate.with_values(
        {"fc1.weight": values["fc1.weight"]},
        {
            "fc1.weight": Masked(mask),
            "fc2.0.weight": shared,
            "fc2.1.weight": Masked(np.zeros((100, 3), np.bool_)),
            "fc3.weight": full,
        },
    )
    step = Step("PruneMagnitude", "PruneMagnitude(sparsity=0.9)", seconds=1.5)
    candidate = replace(candidate, history=(step,), float_nodes=("fc1",))
    if not grids:
        return candidate
    relu = TensorId("relu2", "relu")
    linear = TensorId("fc3", "linear")
    return replace(
        candidate,
        activations={relu: ActivationQuant(0.125, 0), linear: ActivationQuant(0.25, 128)},
        ties=(frozenset({relu}),),
    )


def write_untraced(candidate: Candidate, path: Path, **changed: Json) -> Path:
    """What DeepCompressionExporter writes, without tracing the net, `about` changed."""
    tensors: dict[str, tuple[NDArray[Any], Encoding | None]] = {
        name: (array, candidate.encodings.get(name))
        for name, array in candidate.network.state().items()
    }
    about = {**_about(candidate), "digest": candidate.digest(), **changed}
    write_container(path, about, tensors)
    return path


def parts(path: Path) -> dict[str, bytes]:
    """A container's parts: digest, about, names, columns, graph (if any), payload; inflated."""
    cursor = Cursor(path.read_bytes(), "a container")
    cursor.take(8)
    found = {"digest": bytes(cursor.take(DIGEST_BYTES))}
    head = Cursor(inflate(cursor.take(cursor.varint()), "head", DICTIONARY), "a head")
    found["about"] = bytes(head.take(head.varint()))
    found["names"] = bytes(head.take(head.varint()))
    found["columns"] = bytes(head.rest())
    graph = cursor.take(cursor.varint())
    if graph:
        found["graph"] = inflate(graph, "graph")
    return {**found, "payload": bytes(cursor.rest())}


def put(path: Path, found: Mapping[str, bytes]) -> Path:
    """The opposite of `parts`, whatever the parts are; the checksum is right."""
    head = b"".join(write_varint(len(found[n])) + found[n] for n in ("about", "names"))
    return put_packed(
        path,
        found["digest"],
        deflate(head + found["columns"], "head", DICTIONARY),
        deflate(found["graph"], "graph") if "graph" in found else b"",
        found["payload"],
    )


def put_packed(path: Path, digest: bytes, head: bytes, graph: bytes, payload: bytes) -> Path:
    """A container of parts that are deflated already."""
    body = b"".join(
        (digest, write_varint(len(head)), head, write_varint(len(graph)), graph, payload)
    )
    return sealed(path, MAGIC + bytes([VERSION]) + bytes(4) + body)


def sealed(path: Path, data: bytes) -> Path:
    """Write `data` with the checksum of what it holds."""
    path.write_bytes(data[:4] + zlib.crc32(data[8:]).to_bytes(4, "little") + data[8:])
    return path


def with_about(path: Path, change: Callable[[Json], Json]) -> Path:
    """The container with its description changed, as it stands in the file."""
    found = parts(path)
    about = change(json.loads(found["about"]))
    return put(path, {**found, "about": json.dumps(about).encode()})


def records(path: Path) -> list[Record]:
    found = parts(path)
    return list(read_records(found["names"], found["columns"], len(found["payload"])))


def with_records(path: Path, change: Callable[[list[Record]], list[Record]]) -> Path:
    """The container with its index changed, the payload as it was."""
    changed = change(records(path))
    index = {"names": write_names(changed), "columns": write_records(changed)}
    return put(path, {**parts(path), **index})
