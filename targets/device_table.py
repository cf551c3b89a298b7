"""The table of files by target: times of real hardware, then instructions of emulated CPUs."""

from __future__ import annotations

from collections.abc import Sequence

from targets.device_results import DeviceResult, on_processor
from targets.report import Report
from targets.report_row import Row
from targets.units import share_text, threads_text, time_text
from targets.words import MISSING

Place = tuple[str, int]


def device_columns(reports: Sequence[Report]) -> tuple[str, ...]:
    """The heads: the file's, this machine's, then every further target of any report."""
    places = (_head(place, emulated) for place, emulated in _places(reports))
    return ("Model", "File", "local, 1 thread", *places)


def device_rows(reports: Sequence[Report]) -> list[tuple[str, ...]]:
    """The cells of `device_columns` by file, of reports that were measured on further targets.

    In brackets: of the time, or the count, of the first file of the same format there.
    """
    places = [place for place, _ in _places(reports)]
    rows: list[tuple[str, ...]] = []
    for report in reports:
        found = {(r.sha256, (r.target, r.threads)): r for r in report.elsewhere}
        for row in report.rows if report.elsewhere else ():
            if row.latency_ms is not None:
                cells = (_cell(found.get((row.sha256, place))) for place in places)
                rows.append((f"{row.model}, {row.dataset}", row.path, _local(row), *cells))
    return rows


def _places(reports: Sequence[Report]) -> list[tuple[Place, bool]]:
    """((target, threads), whether it is emulated), in the order of the reports, emulated last."""
    found = {
        (r.target, r.threads): r.provenance == "emulated"
        for report in reports
        for r in report.elsewhere
    }
    return sorted(found.items(), key=lambda item: item[1])


def _head(place: Place, emulated: bool) -> str:
    target, threads = place
    if emulated:
        return f"{target}, million instructions (emulated)"
    return f"{target}, {threads_text(threads)}"


def _local(row: Row) -> str:
    assert row.latency_ms is not None
    return f"{time_text(row.latency_ms.median)}{', noisy' if row.noisy else ''}"


def _cell(result: DeviceResult | None) -> str:
    if result is None:
        return MISSING
    if result.instructions is not None:
        return f"{result.instructions / 1e6:.2f}{_bracket(result)}"
    if result.median_ms is not None:
        noisy = ", noisy" if result.noisy else ""
        return f"{time_text(result.median_ms)}{_bracket(result)}{noisy}"
    if result.same_class is None:
        return str(result.untimed)
    told = f"same class {share_text(result.same_class)}"
    return ", ".join(filter(None, (told, on_processor(result))))


def _bracket(result: DeviceResult) -> str:
    if result.ratio is None:
        return ""
    if result.ratio_low is None or result.ratio_high is None:
        return f" ({result.ratio:.3f})"
    return f" ({result.ratio:.2f}, {result.ratio_low:.2f}-{result.ratio_high:.2f})"
