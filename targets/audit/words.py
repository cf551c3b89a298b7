"""An audit in words: lines for a terminal, and a row for each layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from targets.audit.data import Audit, Converted, Layer
from targets.units import count_text

LAYER_COLUMNS = ("layer", "written", "runs as", "in", "MACs", "of all")
_NAMED = 6


def audit_lines(audit: Audit) -> Iterator[str]:
    """What was made of the file, one thing a line; what an int8 file lost of its int8 last."""
    yield f"runtime    {audit.runtime}, {_delegate(audit)}"
    yield from _operators(audit)
    yield from _arithmetic(audit)
    found = (
        ("quantize", audit.quantize),
        ("dequantize", audit.dequantize),
        ("transpose", audit.transpose),
    )
    yield "converts   " + ", ".join(f"{name} {_converted(count)}" for name, count in found)
    if audit.expanded:
        yield (
            f"expands    {_count(len(audit.expanded), 'constant')} at every run, which costs time: "
            f"{_named(audit.expanded)}"
        )
    if audit.fell_back:
        kinds = Counter(layer.kernel or "an unknown kernel" for layer in audit.fell_back)
        yield (
            f"NOT INT8   {_count(len(audit.fell_back), 'layer')} written in int8 run as "
            f"{', '.join(kinds)}: {_named([layer.name for layer in audit.fell_back])}"
        )


def layer_rows(audit: Audit) -> list[tuple[str, ...]]:
    """The cells of `LAYER_COLUMNS` for each layer."""
    return [_row(layer, audit.macs) for layer in audit.layers]


def _row(layer: Layer, macs: int | None) -> tuple[str, ...]:
    own = "" if layer.macs is None else count_text(layer.macs)
    share = f"{layer.macs / macs:.1%}" if macs and layer.macs is not None else ""
    return (layer.name, layer.operator, layer.kernel or "?", layer.ran, own, share)


def _delegate(audit: Audit) -> str:
    """'XNNPACK took all 38 operators in 1 part', or what it left."""
    left = sum(audit.left.values())
    parts = f" in {audit.parts} parts" if audit.parts > 1 else ""
    if not left:
        return f"{audit.provider} took all {audit.taken} operators{parts}"
    kinds = ", ".join(f"{n} {kind}" for kind, n in audit.left.items())
    whole = audit.taken + left
    return f"{audit.provider} took {audit.taken} of {whole} operators{parts}; left: {kinds}"


def _operators(audit: Audit) -> Iterator[str]:
    """Those on integers and the others, by kind; the conversions between are told elsewhere."""
    others = {kind: n - audit.in_int8.get(kind, 0) for kind, n in audit.operators.items()}
    rest = "the rest" if audit.in_int8 else "runs"
    for name, kinds in (("runs int8", audit.in_int8), (rest, others)):
        if shown := ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n):
            yield f"{name:<11}{shown}"


def _arithmetic(audit: Audit) -> Iterator[str]:
    """How many layers run in which arithmetic, with their share of the multiplications."""
    counts = Counter(layer.ran for layer in audit.layers)
    for kind in ("int8", "float", "unknown"):
        if not counts[kind]:
            continue
        macs = [layer.macs for layer in audit.layers if layer.ran == kind]
        share = ""
        if audit.macs:
            own = sum(n for n in macs if n is not None)
            share = f", {own / audit.macs:.1%} of {count_text(audit.macs)} MACs"
        names = [layer.name for layer in audit.layers if layer.ran == kind]
        some = f": {_named(names)}" if 0 < len(names) < len(audit.layers) / 2 else ""
        yield f"in {kind:<8}{counts[kind]} of {_count(len(audit.layers), 'layer')}{share}{some}"


def _converted(count: Converted) -> str:
    if count.written == count.ran:
        return str(count.ran)
    return f"{count.ran} (in the file {count.written})"


def _named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
