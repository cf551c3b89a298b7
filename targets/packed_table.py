"""The table of packed files: against the plain file of the fp32 net and against the container."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from targets.measurement import ratio_of_times
from targets.report import Report
from targets.report_row import Row
from targets.units import share_text, times_text
from targets.words import MISSING, shown

PLAIN = {"onnx-packed": "onnx", "tflite-packed": "tflite"}
COLUMNS = (
    "Model",
    "File",
    "Size",
    "Ratio",
    "Of the container",
    "Download",
    "Of the container",
    "Top-1",
    "fp32 top-1",
    "Latency, of fp32's",
    "Load, of fp32's",
)


def packed_rows(reports: Sequence[Report]) -> Iterator[tuple[str, ...]]:
    """The cells of each packed file, by model, precision, container and format."""
    found = [(report, row) for report in reports for row in report.rows if row.format in PLAIN]
    found.sort(key=lambda x: (x[1].model, x[1].dataset, x[1].precision, x[1].path))
    for report, row in found:
        plain = next(
            (r for r in report.rows if (r.format, r.method) == (PLAIN[row.format], "none")), None
        )
        container = next(
            (r for r in report.rows if r.format == "dc" and _stem(r) == _stem(row)), None
        )
        yield (
            f"{row.model}, {row.dataset}",
            f"{row.format.removesuffix('-packed')}, {row.precision}",
            f"{row.file_bytes:,} B",
            shown(row.ratio, times_text),
            _share(row.file_bytes, container),
            f"{row.download_bytes:,} B",
            _share(row.download_bytes, container),
            shown(row.top1, share_text),
            shown(row.top1_fp32, share_text),
            _latency(row, plain),
            _load(row, plain),
        )


def _stem(row: Row) -> str:
    return row.path.removesuffix(".dc").split(".packed.")[0]


def _share(size: int, container: Row | None) -> str:
    return MISSING if container is None else f"{size / container.file_bytes:.3f}"


def _latency(row: Row, plain: Row | None) -> str:
    """'1.002 (0.995-1.011)': packed in units of plain, with the 95 % interval over processes."""
    if plain is None or not row.times_ms or not plain.times_ms:
        return MISSING
    found = ratio_of_times(row.times_ms, plain.times_ms)
    noisy = ", noisy" if row.noisy or plain.noisy else ""
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f}{noisy})"


def _load(row: Row, plain: Row | None) -> str:
    if plain is None or row.load_ms is None or plain.load_ms is None:
        return MISSING
    return f"{row.load_ms / plain.load_ms:.1f} ({row.load_ms:.0f} ms)"
