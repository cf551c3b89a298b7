"""The files of a report on further targets: boards, accelerators, more threads, an emulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import ReportError
from targets.bench_table import kernels
from targets.device import Provenance
from targets.measurement import Measurement, ratio
from targets.units import bytes_text, count_text, share_text, threads_text, time_text

if TYPE_CHECKING:
    from targets.agreement import Agreement

TITLE = "On other targets"
COLUMNS = (
    *("File", "Target", "A picture", "Of the first's", "Loading", "Peak memory"),
    *("Outputs", "Notes"),
)
NOTE = (
    "Medians of the raw times, and their ratio to those of the first file of the same format, "
    "which took turns with it, with the 95 % interval over processes. Where a program emulates "
    "the processor, instructions are counted instead: they are exact, and no latency. Emulated "
    "targets stand last. Outputs: on some pictures beside this machine's processor, the largest "
    "difference and the share with the same first class."
)
MISSING = "–"


@dataclass(frozen=True)
class DeviceResult:
    """One file on one target. ms and bytes; `ratio`, to the first file there, with its interval.

    instructions: of one inference, where an emulator counted; then times are None. `kernels`: the
    instructions that tell which kernels ran, with their shares. `untimed`: why there is no time.
    same_class: share of `pictures`, in [0, 1], with the first class of this machine's processor;
    largest_error: of an output, of `outputs_range`, the largest; cpu_nodes of nodes: those that an
    accelerator left to the processor, with so many copies. None: not asked, or not told.
    """

    path: str
    sha256: str
    target: str
    threads: int
    provenance: Provenance
    runtime: str
    provider: str
    cpu: str | None = None
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    load_ms: float | None = None
    peak_rss_bytes: int | None = None
    instructions: int | None = None
    kernels: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    noisy: bool = False
    untimed: str | None = None
    pictures: int | None = None
    same_class: float | None = None
    largest_error: float | None = None
    outputs_range: float | None = None
    nodes: int | None = None
    cpu_nodes: int | None = None
    copies: int | None = None

    def __post_init__(self) -> None:
        values = (self.median_ms, self.load_ms, self.peak_rss_bytes, self.instructions, self.ratio)
        if any(value is not None and value < 0 for value in values) or self.threads < 1:
            raise ReportError(f"{self.path} on {self.target}: numbers from 0 and threads from 1")


def device_results(
    found: Sequence[Measurement], agreements: Sequence[Agreement] = ()
) -> tuple[DeviceResult, ...]:
    """Target by target, real hardware first; each file beside the first of its format there."""
    beside = {(a.file, a.target): a for a in agreements}
    places = list(dict.fromkeys((m.target, m.threads) for m in found))
    order = {place: number for number, place in enumerate(places)}
    ordered = sorted(
        found, key=lambda m: (m.provenance != "measured", order[(m.target, m.threads)])
    )
    firsts: dict[tuple[str, int, str], Measurement] = {}
    for m in ordered:
        firsts.setdefault(_place(m), m)
    return tuple(
        _with_outputs(_result(m, firsts[_place(m)]), beside.get((m.file, m.target)))
        for m in ordered
    )


def _with_outputs(result: DeviceResult, found: Agreement | None) -> DeviceResult:
    if found is None:
        return result
    return replace(
        result,
        pictures=found.pictures,
        same_class=found.top1,
        largest_error=found.largest,
        outputs_range=found.range,
        nodes=_sum(found.nodes),
        cpu_nodes=_sum(found.cpu_nodes),
        copies=_sum(found.copies),
    )


def _sum(counts: Mapping[str, int] | None) -> int | None:
    return None if counts is None else sum(counts.values())


def _place(m: Measurement) -> tuple[str, int, str]:
    return m.target, m.threads, Path(m.file).suffix


def _result(m: Measurement, first: Measurement) -> DeviceResult:
    known = DeviceResult(
        path=m.file,
        sha256=m.sha256,
        target=m.target,
        threads=m.threads,
        provenance=m.provenance,
        runtime=f"{m.runtime} {m.runtime_version}",
        provider=m.provider,
        cpu=str(m.environment.get("cpu") or "") or None,
        peak_rss_bytes=m.peak_rss_bytes if m.provenance == "measured" else None,
        untimed=m.untimed,
    )
    if m.instructions is not None and first.instructions is not None:
        total = m.instructions["insns"]
        share = None if m is first else total / first.instructions["insns"]
        return replace(known, instructions=total, kernels=kernels(m.instructions), ratio=share)
    if not m.timed:
        return known
    timed = replace(
        known,
        median_ms=m.median_ms,
        p10_ms=m.p10_ms,
        p90_ms=m.p90_ms,
        load_ms=m.load_ms,
        noisy=m.noisy,
    )
    if m is first:
        return timed
    r = ratio(m, first)
    if not r.told:
        return replace(timed, ratio=r.value)
    return replace(timed, ratio=r.value, ratio_low=r.low, ratio_high=r.high)


def device_rows(found: Iterable[DeviceResult]) -> list[tuple[str, ...]]:
    """The cells of COLUMNS."""
    return [_cells(result) for result in found]


def _cells(result: DeviceResult) -> tuple[str, ...]:
    return (
        result.path,
        f"{result.target}, {threads_text(result.threads)}",
        _cost(result),
        _ratio_text(result),
        MISSING if result.load_ms is None else time_text(result.load_ms),
        MISSING if result.peak_rss_bytes is None else bytes_text(result.peak_rss_bytes),
        _outputs(result),
        _notes(result),
    )


def _cost(result: DeviceResult) -> str:
    if result.instructions is not None:
        return f"{count_text(result.instructions)} instructions"
    if result.median_ms is None:
        return MISSING
    return time_text(result.median_ms)


def _ratio_text(result: DeviceResult) -> str:
    if result.ratio is None:
        return MISSING
    if result.ratio_low is None or result.ratio_high is None:
        return f"{result.ratio:.3f}"
    return f"{result.ratio:.2f} ({result.ratio_low:.2f}–{result.ratio_high:.2f})"


def _outputs(result: DeviceResult) -> str:
    if result.largest_error is None or result.outputs_range is None:
        return MISSING
    same = "" if result.same_class is None else f", same class {share_text(result.same_class)}"
    return f"{result.largest_error:.2g} of {result.outputs_range:.3g}{same}"


def on_processor(result: DeviceResult) -> str:
    """How many nodes an accelerator left to the processor; '' where it does not tell."""
    if result.cpu_nodes is None or result.nodes is None:
        return ""
    copies = "" if result.copies is None else f", {result.copies} copies"
    return f"{result.cpu_nodes} of {result.nodes} nodes on the processor{copies}"


def _notes(result: DeviceResult) -> str:
    notes = [
        result.provider,
        result.kernels,
        on_processor(result),
        result.untimed or "",
        "noisy" if result.noisy else "",
    ]
    return "; ".join(filter(None, notes))
