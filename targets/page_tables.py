"""The tables of report.html: files, layers, steps, environment, gaps. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from targets import device_results, operations
from targets.device_results import DeviceResult
from targets.file_words import Cell, file_cells, file_columns, file_notes
from targets.report import Report
from targets.report_row import Row
from targets.report_stages import Layer, SensitivityScan, StepRow
from targets.svg import escape
from targets.units import count_text, seconds_text
from targets.words import (
    STEP_COLUMNS,
    facts,
    flags,
    gaps,
    scan_rows,
    shape_text,
    step_cells,
    weights_and_rest,
    where_text,
)


def files_table(report: Report, ship: str | None) -> str:
    """Every file on every target, the advised one (`ship`, its sha256) marked."""
    if not report.rows:
        return ""
    columns = file_columns(report.rows)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Name", *columns))
    rows = "".join(_file_row(row, ship, columns) for row in report.rows)
    return (
        f"<h2>Files</h2><p>{escape(file_notes(report))}</p>"
        f'<table class="cards files"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _file_row(row: Row, ship: str | None, columns: Sequence[str]) -> str:
    advised = row.sha256 == ship
    tags = '<span class="tag ship">ship</span>' if advised else ""
    tags += "".join(f'<span class="tag warn">{escape(flag)}</span>' for flag in flags(row))
    where = where_text(row) or row.not_measured.get("runtime", "")
    cells = "".join(
        f'<td data-of="{name}">{_cell(cell)}</td>'
        for name, cell in zip(columns, file_cells(row, columns), strict=True)
    )
    kind = ' class="ship"' if advised else ""
    name = f"{escape(row.path)}{tags}<small>{escape(where)}</small>"
    return f'<tr{kind}><th scope="row">{name}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    parts = (part for part in (cell.detail, cell.second) if part)
    details = "".join(f"<small>{escape(part)}</small>" for part in parts)
    return f"{escape(cell.value)}{details}"


def layers_table(layers: Sequence[Layer]) -> str:
    """Every weight: zeros, bits, kind of encoding."""
    weights, rest = weights_and_rest(layers)
    if not weights:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(x.name)}</code></th>'
        f'<td data-of="Shape">{escape(shape_text(x.shape))}</td>'
        f'<td data-of="Weights">{count_text(x.parameters)}</td>'
        f'<td data-of="Non-zero">{count_text(x.nonzeros)}</td>'
        f'<td data-of="Sparsity" class="bar-cell">{_bar(x.sparsity, f"{100 * x.sparsity:.1f} %")}'
        f'</td><td data-of="Bits" class="bar-cell">{_bar(x.bits / 32, f"{x.bits} bit")}</td>'
        f'<td data-of="Encoding">{escape(x.encoding)}</td></tr>'
        for x in weights
    )
    columns = ("Tensor", "Shape", "Weights", "Non-zero", "Sparsity", "Bits a value", "Encoding")
    others = (
        f"Biases and norms: {count_text(sum(x.parameters for x in rest))} values in "
        f"{len(rest)} tensors, not shown. "
        if rest
        else ""
    )
    return (
        f"<h2>Layers</h2><p>{others}Bits are those of a stored value before entropy coding.</p>"
        + _table(columns, rows)
    )


def _bar(share: float, said: str) -> str:
    width = max(0.0, min(1.0, share)) * 100
    return (
        f'<span class="track"><span class="fill" style="width:{width:.1f}%"></span></span>'
        f'<span class="said">{escape(said)}</span>'
    )


def sensitivity_table(scan: SensitivityScan) -> str:
    """The figures of the chart, folded away."""
    columns, found = scan_rows(scan)
    rows = ""
    for cells in found:
        pairs = zip(columns[1:], cells[1:], strict=True)
        values = "".join(f'<td data-of="{name}">{escape(cell)}</td>' for name, cell in pairs)
        rows += f'<tr><th scope="row"><code>{escape(cells[0])}</code></th>{values}</tr>'
    return f"<details><summary>All figures</summary>{_table(columns, rows)}</details>"


def operations_table(rows: Sequence[Row]) -> str:
    """Fewer operations beside less time; '' where no file has fewer."""
    cells = operations.operation_rows(rows)
    return _words_table(operations.TITLE, operations.NOTE, operations.COLUMNS, cells)


def devices_table(found: Sequence[DeviceResult]) -> str:
    """The files on further targets; '' where there are none."""
    cells = device_results.device_rows(found)
    return _words_table(device_results.TITLE, device_results.NOTE, device_results.COLUMNS, cells)


def _words_table(
    title: str, note: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> str:
    body = ""
    for cells in rows:
        values = "".join(
            f'<td data-of="{name}" class="wrap">{escape(cell)}</td>'
            for name, cell in zip(columns[1:], cells[1:], strict=True)
        )
        body += f'<tr><th scope="row">{escape(cells[0])}</th>{values}</tr>'
    return f"<h2>{title}</h2><p>{note}</p>{_table(columns, body, 'cards words')}" if rows else ""


def steps_table(steps: Sequence[StepRow]) -> str:
    """What each stage did, in order."""
    if not steps:
        return ""
    rows = ""
    for before, step in pairwise([None, *steps]):
        assert step is not None
        top1, nonzeros, touched, spent = step_cells(step, before)
        skipped = "".join(
            f"<small>left alone: {escape(s.layer)} ({escape(s.reason)})</small>"
            for s in step.skipped
        )
        rows += (
            f'<tr><th scope="row">{escape(step.stage)}</th>'
            f'<td class="l wrap full" data-of="Settings"><code>{escape(step.settings)}</code>'
            f'{skipped}</td><td data-of="Touched">{touched}</td>'
            f'<td data-of="Non-zero" class="wrap">{nonzeros}</td>'
            f'<td data-of="Validation top-1">{top1}</td>'
            f'<td data-of="Time" class="wrap">{escape(spent)}</td></tr>'
        )
    total = seconds_text(sum(s.seconds for s in steps))
    return (
        f"<h2>Steps</h2><p>In order, {total} together. Accuracy here is on validation data, on "
        f"which choices are made.</p>" + _table(STEP_COLUMNS, rows, "cards steps", ("Settings",))
    )


def _table(
    columns: Iterable[str], rows: str, style: str = "cards", left: Sequence[str] = ()
) -> str:
    head = "".join(
        f'<th scope="col"{" class=l" if name in left else ""}>{name}</th>' for name in columns
    )
    return f'<table class="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def environment(report: Report) -> str:
    """The machine and the versions."""
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts(report)
    )
    return f'<h2>Environment</h2><dl class="facts">{pairs}</dl>'


def unmeasured(report: Report) -> str:
    """What was not measured, and why."""
    lines = "".join(
        f"<li>{escape(what)}{f': {escape(why)}' if why else ''}</li>" for what, why in gaps(report)
    )
    return f'<h2>Not measured</h2><ul class="gaps">{lines}</ul>' if lines else ""
