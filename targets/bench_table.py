"""A bench as text: what was timed, beside the first file of the same target; then what counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from targets.measurement import Measurement, Ratio, ratio

_TIMED = ("file", "target", "threads", "median", "p10", "p90", "ratio [95 %]", "load", "memory")
_COUNTED = ("file", "target (emulated)", "instructions", "ratio", "kernels")
_UNTIMED = ("file", "target", "no latency")
# Of the classes of instructions, those that tell which kernels ran.
_KERNELS = ("fmla", "mlal", "sdot", "udot", "usdot", "smmla", "ummla", "usmmla", "bf16", "sve")
_LEAST_SHARE = 0.01


def table(found: Sequence[Measurement]) -> str:
    """Lines of text. Ratios are to the first file on the same target with as many threads.

    Real hardware comes first; counts of an emulator are no latency and stand apart.
    """
    timed = [m for m in found if m.timed]
    counted = [m for m in found if m.instructions is not None]
    other = [m for m in found if not m.timed and m.instructions is None]
    blocks = [
        aligned(_TIMED, [_timed_row(m, _baseline(m, timed)) for m in timed]),
        *(_note(m) for m in timed if m.noisy or not m.settled),
        aligned(_COUNTED, [_counted_row(m, _baseline(m, counted)) for m in counted]),
        aligned(_UNTIMED, [(m.file, m.target, m.untimed or m.provenance) for m in other]),
        *filter(None, map(_placed, found)),
    ]
    return "\n".join(filter(None, blocks))


def aligned(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; '' without rows."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _baseline(measured: Measurement, found: Sequence[Measurement]) -> Measurement:
    place = (measured.target, measured.threads)
    return next(m for m in found if (m.target, m.threads) == place)


def _timed_row(m: Measurement, baseline: Measurement) -> tuple[str, ...]:
    compared = ""
    if m is not baseline:
        compared = ratio_text(ratio(m, baseline))
    memory = "not shown" if m.peak_rss_bytes is None else f"{m.peak_rss_bytes / 1e6:.0f} MB"
    times = (f"{t:.3f} ms" for t in (m.median_ms, m.p10_ms, m.p90_ms))
    return (m.file, m.target, str(m.threads), *times, compared, f"{m.load_ms:.1f} ms", memory)


def ratio_text(r: Ratio) -> str:
    """'0.50 [0.49, 0.52]'; without brackets where too few processes tell an interval."""
    return f"{r.value:.2f}" + (f" [{r.low:.2f}, {r.high:.2f}]" if r.told else "")


def _counted_row(m: Measurement, baseline: Measurement) -> tuple[str, ...]:
    assert m.instructions is not None and baseline.instructions is not None
    total = m.instructions["insns"]
    compared = "" if m is baseline else f"{total / baseline.instructions['insns']:.3f}"
    return (m.file, m.target, f"{total:,}", compared, kernels(m.instructions))


def kernels(counts: Mapping[str, int]) -> str:
    """The kernels' instructions that are at least a hundredth of all, most first: 'sdot 21 %'."""
    shares = {name: counts.get(name, 0) / counts["insns"] for name in _KERNELS}
    told = sorted((n for n in shares if shares[n] >= _LEAST_SHARE), key=lambda n: -shares[n])
    return ", ".join(f"{name} {shares[name]:.0%}" for name in told)


class Placement(NamedTuple):
    """How many nodes a file has on an accelerator, those left to the processor by kind, copies."""

    nodes: int
    left: Mapping[str, int]
    copies: int


def placement(m: Measurement) -> Placement | None:
    """Where the nodes went; None where the runtime does not tell."""
    told = m.accelerator or {}
    nodes, left = told.get("nodes"), told.get("cpu_nodes")
    if nodes is None or left is None:
        return None
    return Placement(sum(nodes.values()), left, sum((told.get("copies") or {}).values()))


def _placed(m: Measurement) -> str:
    """What an accelerator left to the processor, and its time without the input's copy."""
    told: list[str] = []
    placed = placement(m)
    if placed is not None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(placed.left.items()))
        told.append(f"{sum(placed.left.values())} of {placed.nodes} nodes on the processor")
        told[-1] += f" ({kinds})" if kinds else ""
        told.append(f"{placed.copies} copies between")
    if m.timed and m.resident_ms is not None:
        told.append(f"{m.resident_ms:.3f} ms with the input in its memory already")
    return f"{m.file} on {m.target}: {', '.join(told)}" if told else ""


def _note(m: Measurement) -> str:
    what = f"spread {m.spread:.0%} of the median" if m.noisy else "warm-up did not settle"
    if m.throttled:
        what = "the clock fell while it was measured"
    return (
        f"noisy: {m.file} on {m.target} at {m.threads} thread(s): {what}; measure on a quiet "
        f"machine"
    )
