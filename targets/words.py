"""What both renderings say in the same words: a row's flags, steps, facts, the gaps by reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from targets.report import Report
from targets.report_row import Row
from targets.report_stages import Layer, SensitivityScan, StepRow
from targets.units import (
    bytes_text,
    count_text,
    seconds_text,
    share_text,
    threads_text,
)

MISSING = "—"
SMOKE_BANNER = (
    "This was a smoke run: a few pictures, one epoch, hardly timed. It shows that everything "
    "works; its figures mean nothing."
)


STEP_COLUMNS = ("Stage", "Settings", "Touched", "Non-zero", "Validation top-1", "Time")


def shown(value: float | None, text: Callable[[float], str]) -> str:
    """The value as `text` writes it; a dash for what was not measured."""
    return MISSING if value is None else text(value)


def where_text(row: Row) -> str:
    """'onnxruntime 1.31.1, CPUExecutionProvider, local, 1 thread'; '' where it was not run."""
    if row.runtime is None:
        return ""
    parts = (row.runtime, row.provider, row.device, threads_text(row.threads))
    return ", ".join(part for part in parts if part)


def flags(row: Row) -> tuple[str, ...]:
    """'emulated' or 'modelled' where the time is not a measured one; 'noisy'."""
    kind = () if row.provenance in (None, "measured") else (str(row.provenance),)
    return (*kind, "noisy") if row.noisy else kind


def sensitivity_note(scan: SensitivityScan) -> str:
    """What the figures of the scan are."""
    return (
        f"Each layer pruned alone by magnitude, nothing retrained: {scan.metric} on the validation "
        f"data at each sparsity; {scan_text(scan, scan.whole)} before."
    )


def scan_text(scan: SensitivityScan, value: float) -> str:
    """A value of the scan's metric: '98.94 %' where all are shares, else four digits."""
    return share_text(value) if is_share(scan) else f"{value:.4g}"


def scan_rows(scan: SensitivityScan) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(columns, a row for each layer): its weights, and the metric at each sparsity."""
    sparsities = sorted({s for curve in scan.curves for s in curve.sparsities})
    rows: list[tuple[str, ...]] = []
    for curve in scan.curves:
        known = dict(zip(curve.sparsities, curve.values, strict=True))
        cells = (scan_text(scan, known[s]) if s in known else MISSING for s in sparsities)
        rows.append((curve.layer, count_text(curve.weights), *cells))
    return ("Layer", "Weights", *(f"{100 * s:g} %" for s in sparsities)), rows


def is_share(scan: SensitivityScan) -> bool:
    """True where all values lie in [0, 1]."""
    return all(0.0 <= v <= 1.0 for v in (scan.whole, *(v for c in scan.curves for v in c.values)))


def step_cells(step: StepRow, before: StepRow | None) -> tuple[str, str, str, str]:
    """top-1 on validation data, non-zeros with the change, layers touched, time and where."""
    top1 = step.metrics.get("top1")
    dropped = before is not None and before.nonzeros != step.nonzeros
    was = f" (was {count_text(before.nonzeros)})" if before is not None and dropped else ""
    touched = f"{len(step.touched)} layers" if len(step.touched) != 1 else "1 layer"
    on = f" on {step.trained_on}" if step.trained_on else ""
    spent = f"{seconds_text(step.seconds)}{on}"
    return shown(top1, share_text), f"{count_text(step.nonzeros)}{was}", touched, spent


def weights_and_rest(layers: Sequence[Layer]) -> tuple[list[Layer], list[Layer]]:
    """Tensors of two dimensions or more; and the rest (biases, norms), shown as a sum."""
    return [x for x in layers if len(x.shape) > 1], [x for x in layers if len(x.shape) <= 1]


def shape_text(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)


def fact(name: str, value: str | int | float | None) -> tuple[str, str]:
    """One line of the environment, with its unit in words: ('memory', '25.3 GB')."""
    if value is None:
        return name, "not shown"
    if name.endswith("_bytes") and isinstance(value, (int, float)):
        return name.removesuffix("_bytes"), bytes_text(value)
    return name.replace("_", " "), str(value)


def facts(report: Report) -> list[tuple[str, str]]:
    """The environment: the machine, then packages that are installed, sorted."""
    machine = (
        *("cpu", "machine", "cores", "governor", "memory_bytes", "load_average"),
        *("system", "python"),
    )
    known = [n for n in machine if n in report.environment]
    rest = [n for n in sorted(report.environment) if n not in machine]
    installed = [n for n in rest if report.environment[n] is not None]
    return [fact(name, report.environment[name]) for name in (*known, *installed)]


def gaps(report: Report) -> list[tuple[str, str]]:
    """(what was not measured, why), alike reasons joined: ('latency_ms of a.dc', 'no ...')."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        for reason in sorted(set(row.not_measured.values())):
            names = tuple(sorted(n for n, why in row.not_measured.items() if why == reason))
            files = grouped.setdefault((", ".join(names), reason), [])
            if row.path not in files:
                files.append(row.path)
    every = len({r.path for r in report.rows})
    lines = [
        (f"{names} of {'every file' if len(files) == every > 1 else ', '.join(files)}", reason)
        for (names, reason), files in grouped.items()
    ]
    lines += [
        (f"{step.stage} left {skipped.layer} alone", skipped.reason)
        for step in report.steps
        for skipped in step.skipped
    ]
    return lines + [(line, "") for line in report.not_measured]


def common_start(names: Sequence[str]) -> int:
    """How many letters all file names begin with, up to a '-': a net's name that says nothing."""
    first = names[0] if names else ""
    starts = [first[: i + 1] for i, letter in enumerate(first) if letter == "-"]
    shared = [s for s in starts if all(name.startswith(s) for name in names)]
    return max(map(len, shared), default=0)
