"""The table of integer files: what each keeps of the fp32 net's answers, and what it gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from targets.intervals import paired_difference
from targets.measurement import ratio_of_times
from targets.methods import UNTOUCHED
from targets.report import Report
from targets.report_row import Row
from targets.units import share_text, wilson
from targets.words import MISSING, shown

COLUMNS = (
    "Model",
    "File",
    "Size",
    "Of fp32's",
    "Top-1",
    "fp32 top-1",
    "Lost - won",
    "Agreement",
    "Logit SQNR",
    "Faster than fp32",
)
_INTEGER = ("int8", "int4", "mixed")


def int8_rows(reports: Sequence[Report]) -> Iterator[tuple[str, ...]]:
    """The cells of each integer .onnx and .tflite, by model and file; fp32's is of its format.

    With 95 % intervals: of lost - won over as many pictures (targets.intervals), of the agreement
    (Wilson), of the noise (bootstrap over pictures), of the speed (in a repeated bench).
    """
    found = [
        (report, row)
        for report in reports
        for row in report.rows
        if row.format in ("onnx", "tflite") and row.precision in _INTEGER
    ]
    found.sort(key=lambda x: (x[1].model, x[1].dataset, x[1].path))
    for report, row in found:
        plain = _plain(row, report.rows)
        yield (
            f"{row.model}, {row.dataset}",
            row.path,
            f"{row.file_bytes:,} B",
            MISSING if plain is None else f"{row.file_bytes / plain.file_bytes:.3f}",
            shown(row.top1, share_text),
            shown(row.top1_fp32, share_text),
            _lost(row),
            _agreement(row),
            _noise(row),
            _speed(row, plain),
        )


def _plain(row: Row, rows: Sequence[Row]) -> Row | None:
    """The fp32 file of the row's format, timed where the row was if there is such a row."""
    files = [r for r in rows if (r.format, r.method) == (row.format, UNTOUCHED)]
    return max(files, key=lambda r: _place(r) == _place(row), default=None)


def _place(row: Row) -> tuple[str | None, int | None]:
    return (row.device, row.threads)


def _lost(row: Row) -> str:
    """'7 of 500 (-3 to 17)': pictures lost less pictures won, with the interval of that count."""
    if row.lost is None or row.won is None or row.samples is None:
        return MISSING
    low, high = paired_difference(row.lost, row.won, row.samples)
    ends = f"{row.samples * low:.0f} to {row.samples * high:.0f}"
    return f"{row.lost - row.won} of {row.samples:,} ({ends})"


def _agreement(row: Row) -> str:
    if row.agreement is None or row.samples is None:
        return MISSING
    low, high = wilson(row.agreement, row.samples)
    return f"{share_text(row.agreement)} ({100 * low:.1f}-{100 * high:.1f})"


def _noise(row: Row) -> str:
    if row.logit_sqnr_db is None:
        return MISSING
    found = row.logit_sqnr_db
    return f"{found.value:.1f} dB ({found.low:.1f}-{found.high:.1f})"


def _speed(row: Row, plain: Row | None) -> str:
    """'2.41x (2.38-2.44)': fp32's time over the file's, the same runtime, device and threads."""
    if plain is None or not row.times_ms or not plain.times_ms or _place(plain) != _place(row):
        return MISSING
    found = ratio_of_times(plain.times_ms, row.times_ms)
    noisy = ", noisy" if row.noisy or plain.noisy else ""
    return f"{found.value:.2f}× ({found.low:.2f}-{found.high:.2f}{noisy})"
