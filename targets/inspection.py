"""What a file holds, as data: tensors, bytes, operators, and what it says of its net.

No net is run or built: tensors are decoded (those of a packed .onnx by its own operators), a graph
is only read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.digest import digest_of
from compress.encoding import Encoded, Encoding, Masked, full_grid_bits
from compress.errors import ContainerError, DataError, EdgepressError
from compress.spec import ModelSpec, is_own
from targets.account import Account, FileAccount
from targets.accounting import account_tensor, file_account
from targets.artifact import joint_precision
from targets.formats.dc_envelope import Container, amiss, read_container
from targets.formats.dc_record import Record
from targets.formats.dc_tensor import TensorBytes
from targets.metadata import ArtifactMetadata
from targets.sizing.account import SizeAccount, StoredWeights, account_sizes
from targets.sizing.container import stored_in_container

KINDS = (".dc", ".onnx", ".tflite", ".safetensors")


@dataclass(frozen=True)
class TensorSummary:
    """One tensor with values in the file. Fractions in [0, 1].

    `form`: 'plain', 'masked', 'shared', 'int8', 'int4', 'half', 'grid' (a float bias as integers)
    or 'sparse'. `index_bits`: bits of a dense index into the codebook, or that number the levels
    where no codebook is kept; `coding`: how positions and codes are coded, `gap_bits`: width of a
    gap where they are gaps; `coded_bits`: bits a kept weight takes in the file for its position and
    code (codebook and scales apart).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    form: str
    elements: int
    nonzeros: int
    file_bytes: int
    index_bits: int | None = None
    gap_bits: int | None = None
    coded_bits: float | None = None
    coding: str | None = None

    @property
    def kept(self) -> float:
        """The fraction of the weights that are not zero; 1 for no weights."""
        return self.nonzeros / self.elements if self.elements else 1.0


@dataclass(frozen=True)
class Inspection:
    """A file. `fp32_bytes`: its float tensors at 4 bytes an element; None where it is a graph,
    whose constants are not the net's weights alone.

    `parts`: bytes by part (container) or by type of constant (graphs). `says`: what the file says
    of its net: model, classes, preprocess, history, digest. `account`: a container's bytes in the
    terms of the paper. `sizes`: the bytes by cause; None of a checkpoint.
    """

    path: str
    format: str
    file_bytes: int
    precision: str
    tensors: tuple[TensorSummary, ...]
    parts: Mapping[str, int] = field(default_factory=dict[str, int])
    operators: Mapping[str, int] = field(default_factory=dict[str, int])
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    opset: int | None = None
    says: Mapping[str, Any] = field(default_factory=dict[str, Any])
    fp32_bytes: int | None = None
    account: FileAccount | None = None
    sizes: SizeAccount | None = None

    @property
    def ratio(self) -> float | None:
        """fp32_bytes / file_bytes."""
        return None if self.fp32_bytes is None else self.fp32_bytes / self.file_bytes

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "ratio": self.ratio}


def inspect_file(path: Path) -> Inspection:
    """Read `path` by its suffix; an EdgepressError, one line, for what is not such a file."""
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file; give one of {', '.join(KINDS)}")
    kind = path.suffix.lower()
    if kind == ".dc":
        return inspect_container(path)
    if kind == ".safetensors":
        return inspect_safetensors(path)
    # Slow to import, and only for these.
    if kind == ".onnx":
        from targets.inspection_onnx import inspect_onnx

        return inspect_onnx(path)
    if kind == ".tflite":
        from targets.inspection_tflite import inspect_tflite

        return inspect_tflite(path)
    raise DataError(
        f"{path} is of a kind that cannot be inspected ({kind or 'no suffix'}); give one of "
        f"{', '.join(KINDS)}"
    )


def says(found: ArtifactMetadata | None) -> dict[str, Any]:
    """What edgepress wrote into a graph's file of its net; nothing in a file of another maker."""
    if found is None:
        return {}
    return {
        "model": found.model,
        "classes": list(found.classes),
        "preprocess": asdict(found.preprocess),
        "digest": found.digest,
    }


def plain_summary(name: str, array: NDArray[Any], file_bytes: int) -> TensorSummary:
    """A tensor that stands in its file as it is."""
    nonzeros = int(np.count_nonzero(array))
    dtype = str(array.dtype)
    return TensorSummary(name, array.shape, dtype, "plain", array.size, nonzeros, file_bytes)


def inspect_container(path: Path) -> Inspection:
    """A Deep Compression container, without torch."""
    container = read_container(path)
    summaries: list[TensorSummary] = []
    accounts: list[Account | None] = []
    stored: list[StoredWeights] = []

    def seen() -> Iterator[tuple[str, NDArray[Any], Encoding | None]]:
        """Each tensor in turn, summed up on its way into the digest: one is in memory at a time."""
        for (record, measured), (name, array, encoding) in zip(
            container.measure(), container.decode(), strict=True
        ):
            summaries.append(_coded_summary(record, array, encoding, measured))
            accounts.append(account_tensor(name, array, encoding, measured))
            kept = summaries[-1].nonzeros
            stored.append(stored_in_container(record, encoding, kept, measured))
            yield name, array, encoding

    try:
        digest = digest_of(container.about, seen())
    except ContainerError:
        raise
    except (EdgepressError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise amiss(str(path), f"part 'about' is damaged: {error}") from error
    tensors = tuple(summaries)
    size = path.stat().st_size
    # What no part accounts for: lengths, checksum, digest.
    parts = {**container.part_bytes, "envelope": size - sum(container.part_bytes.values())}
    about, precision = _about(container, tensors, digest)
    account = file_account(container, path, accounts)
    described = size - sum(t.file_bytes for t in tensors) - parts.get("graph", 0)
    return Inspection(
        path=str(path),
        format="dc",
        file_bytes=size,
        precision=precision,
        tensors=tensors,
        parts=dict(sorted(parts.items())),
        inputs=about.pop("inputs"),
        says=about,
        fp32_bytes=_fp32_bytes(tensors),
        account=account,
        sizes=account_sizes(path.name, account.sha256, size, stored, described),
    )


def inspect_safetensors(path: Path) -> Inspection:
    """Plain weights, or a candidate's checkpoint."""
    from compress.checkpoint import read_safetensors

    arrays, metadata = read_safetensors(path)
    explained = {n.split("/")[1] for n in arrays if n.startswith("encoding/")}
    state = {
        n.removeprefix("state/"): a for n, a in arrays.items() if not n.startswith("encoding/")
    }
    tensors = tuple(plain_summary(n, a, a.nbytes) for n, a in sorted(state.items()))
    held = {t.name: arrays.get(f"encoding/{t.name}/codebook") for t in tensors}
    forms = {n: "masked" if book is None else _form(book) for n, book in held.items()}
    named = tuple(replace(t, form=forms[t.name]) if t.name in explained else t for t in tensors)
    size = path.stat().st_size
    encodings = sum(a.nbytes for n, a in arrays.items() if n.startswith("encoding/"))
    values = sum(t.file_bytes for t in tensors)
    parts = {"values": values, "encodings": encodings, "header": size - values - encodings}
    return Inspection(
        path=str(path),
        format="safetensors",
        file_bytes=size,
        precision=precision_of(named, grids=False),
        tensors=named,
        parts=parts,
        says={"content": "candidate" if "edgepress" in metadata else "plain weights"},
        fp32_bytes=_fp32_bytes(tensors),
    )


def _coded_summary(
    record: Record, array: NDArray[Any], encoding: Encoding | None, measured: TensorBytes
) -> TensorSummary:
    plain = plain_summary(record.name, array, record.payload_bytes)
    if encoding is None or measured.codes is None:
        return plain
    coded = 8 * measured.codes.total_bytes
    return replace(
        plain,
        form="masked" if isinstance(encoding, Masked) else _form(encoding.codebook),
        index_bits=encoding.bits if isinstance(encoding, Encoded) else None,
        gap_bits=measured.codes.gap_bits,
        coded_bits=coded / plain.nonzeros if plain.nonzeros else None,
        coding=measured.codes.coding,
    )


def _form(codebook: NDArray[Any]) -> str:
    if codebook.dtype != np.int8:
        return "shared"
    return "int4" if full_grid_bits(codebook) == 4 else "int8"


def _about(
    container: Container, tensors: tuple[TensorSummary, ...], digest: str
) -> tuple[dict[str, Any], str]:
    """(what the container says of its net, its precision); ContainerError where it is damaged."""
    about = container.about
    said = str(about["digest"])
    try:
        spec = ModelSpec.from_json(json.dumps(about["spec"]), trusted=True)
        told: dict[str, Any] = {
            "model": spec.name
            if is_own(spec.builder)
            else f"{spec.name} (built by {spec.builder})",
            "inputs": tuple(f"{t.name} {t.dtype} {list(t.shape)} {t.layout}" for t in spec.inputs),
            "classes": list(spec.classes),
            "preprocess": asdict(spec.preprocess),
            "history": [str(step["settings"]) for step in about["history"]],
            "edits": len(about["edits"]),
            "grids": len(about["activations"]),
            "digest": digest if digest.startswith(said) else said,
            "verified": _verdict(said, digest),
            "graph": container.graph is not None,
        }
    except (EdgepressError, LookupError, TypeError, ValueError) as error:
        raise amiss(
            container.source, ContainerError(f"part 'about' is damaged: {error}")
        ) from error
    if not told["grids"]:
        return told, precision_of(tensors, grids=False)
    weights = [tensor.form for tensor in tensors if len(tensor.shape) > 1]
    return told, joint_precision({f if f in ("int8", "int4") else "fp32" for f in weights})


def _verdict(said: str, found: str) -> str:
    """Whether the description and the tensors are those that the file's digest was made of."""
    if found.startswith(said):
        return "yes: description and tensors have this digest"
    return f"NO: they have {found[:16]}..., so the file was changed and load refuses it"


def precision_of(tensors: tuple[TensorSummary, ...], *, grids: bool) -> str:
    """What the tensors' forms say; `grids`: activations are quantized."""
    forms = {tensor.form for tensor in tensors}
    if grids:
        return "int8"
    coded = forms & {"shared", "int8", "int4"}
    return "shared" if coded else "pruned" if "masked" in forms else "fp32"


def _fp32_bytes(tensors: tuple[TensorSummary, ...]) -> int:
    return sum(4 * tensor.elements for tensor in tensors if tensor.dtype.startswith("float"))
