"""edgepress inspect: what a file holds, layer by layer; with --run, what a runtime makes of it."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from recipes.toolbox.columns import columns
from recipes.toolbox.inside import Inside, look_inside
from targets.account_words import ACCOUNT_NOTE, account_rows, account_summary
from targets.audit.words import LAYER_COLUMNS, audit_lines, layer_rows
from targets.inspection import Inspection, TensorSummary, inspect_file
from targets.sizing.account import SizeAccount
from targets.sizing.downloads import MOST_BYTES, Downloads, downloads
from targets.sizing.words import START, changes
from targets.units import bytes_text, time_text

_CODED = ("tensor", "shape", "form", "kept", "index", "coding", "gap", "coded", "bytes", "of file")
# account_words.ACCOUNT_COLUMNS in the breadth of a terminal.
_PAPER = (
    *("layer", "weights", "P kept", "weight P+Q", "P+Q+H", "index P+Q", "P+Q+H"),
    *("rate P+Q", "rate P+Q+H", "bytes"),
)
_LEFT = ("tensor", "shape", "form", "coding", "part", "layer", "cause", "written", "runs as")
_PLAIN = ("tensor", "shape", "form", "kept", "bytes", "of file")


# Above it brotli takes seconds; --run waits for it.
_QUICK_BYTES = 1 << 20


def execute(arguments: argparse.Namespace) -> None:
    """Print what `arguments.file` holds, as a table or as JSON."""
    found = inspect_file(arguments.file)
    inside = look_inside(arguments.file) if arguments.run else None
    sent = downloads(arguments.file.read_bytes(), MOST_BYTES if arguments.run else _QUICK_BYTES)
    if arguments.json:
        own = {"downloads": asdict(sent), "run": None if inside is None else inside.to_dict()}
        print(json.dumps({**found.to_dict(), **own}, indent=1))
    else:
        print("\n".join((*_lines(found, sent), *_ran(inside))))


def _ran(inside: Inside | None) -> Iterator[str]:
    if inside is None:
        return
    yield ""
    yield from audit_lines(inside.audit)
    known = inside.measured
    if known is None:
        yield f"not timed: {inside.reason}"
    else:
        base, loaded, peak = (
            known.rss_base_bytes,
            known.rss_load_bytes,
            known.peak_rss_load_bytes,
        )
        memory = "memory not shown by this system"
        if base is not None and loaded is not None and peak is not None:
            memory = (
                f"{bytes_text(max(0, loaded - base))} resident after it, "
                f"{bytes_text(max(0, peak - base))} at most meanwhile"
            )
        yield f"load       {time_text(known.load_ms)}; {memory}"
    yield ""
    yield from _table(LAYER_COLUMNS, layer_rows(inside.audit))


def _lines(found: Inspection, sent: Downloads) -> Iterator[str]:
    yield f"{found.path}: {found.format}, {found.precision}, {found.file_bytes:,} bytes"
    fp32_bytes = found.fp32_bytes
    if fp32_bytes is None and found.sizes is not None:
        fp32_bytes = found.sizes.fp32_bytes
    if fp32_bytes is not None:
        ratio = fp32_bytes / found.file_bytes
        yield f"fp32 weights {fp32_bytes:,} bytes, {ratio:.2f} times this file"
        yield f"parameters {fp32_bytes // 4:,}"
    yield f"download   {_downloads(sent)}"
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
    if found.sizes is not None:
        yield ""
        yield from _table(("cause", "bytes", "so far"), _causes(found.sizes))
    yield ""
    parts = [(part, f"{n:,}", f"{n / found.file_bytes:.1%}") for part, n in found.parts.items()]
    yield from _table(("part", "bytes", "of file"), parts)


def _downloads(sent: Downloads) -> str:
    sizes = (("brotli", sent.brotli_bytes), ("zstd", sent.zstd_bytes))
    shown = [f"{size:,} {name}" for name, size in sizes if size is not None]
    missing = dict.fromkeys(sent.reasons.values())
    return "; ".join((", ".join((f"{sent.zip_bytes:,} zip", *shown)), *missing))


def _causes(account: SizeAccount) -> list[tuple[str, ...]]:
    """From the fp32 weights to the file, a row for each cause."""
    rows = [(step.cause, f"{step.bytes:+,}", f"{step.total:,}") for step in changes(account)]
    return [(START, "", f"{account.fp32_bytes:,}"), *rows]


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
    # A sparse tensor's type says why it is as large as it is: floats are on no integer grid.
    typed = {"plain": tensor.dtype, "sparse": f"sparse {tensor.dtype}"}
    form = typed.get(tensor.form, tensor.form)
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
    """Names to the left, numbers to the right."""
    return columns(head, rows, _LEFT)
