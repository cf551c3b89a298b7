"""edgepress inspect: what a file holds, layer by layer."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from targets.account_words import ACCOUNT_NOTE, account_rows, account_summary
from targets.inspection import Inspection, TensorSummary, inspect_file

_CODED = ("tensor", "shape", "form", "kept", "index", "coding", "gap", "coded", "bytes", "of file")
# account_words.ACCOUNT_COLUMNS in the breadth of a terminal.
_PAPER = (
    *("layer", "weights", "P kept", "weight P+Q", "P+Q+H", "index P+Q", "P+Q+H"),
    *("rate P+Q", "rate P+Q+H", "bytes"),
)
_LEFT = ("tensor", "shape", "form", "coding", "part", "layer")
_PLAIN = ("tensor", "shape", "form", "kept", "bytes", "of file")


def execute(arguments: argparse.Namespace) -> None:
    """Print what `arguments.file` holds, as a table or as JSON."""
    found = inspect_file(arguments.file)
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(_lines(found)))


def _lines(found: Inspection) -> Iterator[str]:
    yield f"{found.path}: {found.format}, {found.precision}, {found.file_bytes:,} bytes"
    if found.ratio is not None:
        yield f"fp32 weights {found.fp32_bytes:,} bytes, {found.ratio:.2f} times this file"
    if found.opset is not None:
        yield f"opset {found.opset}"
    for name, values in (("input", found.inputs), ("output", found.outputs)):
        yield from (f"{name:<10} {value}" for value in values)
    yield from _said(found.says)
    if found.operators:
        yield "operators  " + ", ".join(f"{n} {kind}" for kind, n in found.operators.items())
    yield ""
    coded = found.format == "dc"
    rows = [_row(tensor, found.file_bytes, coded) for tensor in found.tensors]
    yield from _table(_CODED if coded else _PLAIN, [*rows, _total(found, coded)])
    if found.account is not None:
        yield from ("", *textwrap.wrap(ACCOUNT_NOTE, 100), account_summary(found.account))
        yield from _table(_PAPER, list(account_rows(found.account)))
    yield ""
    parts = [(part, f"{n:,}", f"{n / found.file_bytes:.1%}") for part, n in found.parts.items()]
    yield from _table(("part", "bytes", "of file"), parts)


def _said(says: Mapping[str, Any]) -> Iterator[str]:
    """What the file says of its net, one thing a line; long lists by their length."""
    for name, value in says.items():
        if name == "history":
            yield from (f"{'stage':<10} {settings}" for settings in value)
        elif name == "classes":
            names = ", ".join(value[:10])
            yield f"{name:<10} {len(value)}: {names}{', ...' if len(value) > 10 else ''}"
        elif name == "preprocess":
            yield f"{name:<10} " + ", ".join(f"{k} {v}" for k, v in value.items())
        else:
            yield f"{name:<10} {value}"


def _row(tensor: TensorSummary, file_bytes: int, coded: bool) -> tuple[str, ...]:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    form = tensor.form if tensor.form != "plain" else tensor.dtype
    head = (tensor.name, shape, form, f"{tensor.kept:.1%}")
    coding = (tensor.coding or "", _bits(tensor.gap_bits), _bits(tensor.coded_bits))
    bits = (_bits(tensor.index_bits), *coding)
    tail = (f"{tensor.file_bytes:,}", f"{tensor.file_bytes / file_bytes:.1%}")
    return (*head, *bits, *tail) if coded else (*head, *tail)


def _total(found: Inspection, coded: bool) -> tuple[str, ...]:
    elements = sum(tensor.elements for tensor in found.tensors)
    kept = sum(tensor.nonzeros for tensor in found.tensors) / elements if elements else 1.0
    size = sum(tensor.file_bytes for tensor in found.tensors)
    head = (f"{len(found.tensors)} tensors", f"{elements:,}", "", f"{kept:.1%}")
    tail = (f"{size:,}", f"{size / found.file_bytes:.1%}")
    return (*head, "", "", "", "", *tail) if coded else (*head, *tail)


def _bits(count: float | None) -> str:
    return "" if count is None else f"{count:.2f} b" if isinstance(count, float) else f"{count} b"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of equal width: names to the left, numbers to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lefts = {i for i, name in enumerate(head) if name in _LEFT}
    for line in lines:
        cells = (
            cell.ljust(w) if i in lefts else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
