"""report.md, and the tables of READMEs: pure functions of reports, all user text escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from targets import device_results, operations, tradeoff
from targets.account_page import account_parts
from targets.account_words import ACCOUNT_COLUMNS, ACCOUNT_NOTE
from targets.advice import Advice, advise
from targets.device_results import DeviceResult
from targets.file_words import Cell, file_cells, file_columns, file_notes
from targets.int8_scan import Int8Scan
from targets.int8_words import COLUMNS, WAY_COLUMNS, int8_note, layer_cells, way_rows
from targets.int8_words import TITLE as INT8
from targets.planning.held import COLUMNS as HELD_COLUMNS
from targets.planning.held import TITLE as HELD
from targets.planning.held import held_note, held_rows
from targets.report import Report
from targets.report_row import Row
from targets.report_stages import SensitivityScan
from targets.sizing.page import TITLE
from targets.sizing.words import cause_columns, cause_rows, causes_note
from targets.smaller import TITLE as SMALLER
from targets.smaller import smaller_words
from targets.tradeoff import Tradeoff
from targets.units import bytes_text
from targets.words import (
    MISSING,
    SMOKE_BANNER,
    STEP_COLUMNS,
    facts,
    flags,
    gaps,
    scan_rows,
    sensitivity_note,
    shape_text,
    step_cells,
    weights_and_rest,
    where_text,
)


def escape(text: str) -> str:
    """Text that Markdown shows as it is: on one line, no markup, no HTML, no table border."""
    flat = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Underscores inside words (file names) mean nothing in Markdown and stay readable.
    return re.sub(r"([\\`*\[\]|#!~]|(?<!\w)_|_(?!\w))", r"\\\1", flat)


def document(report: Report) -> str:
    """The whole report.md; its first sentence says which file to ship and why."""
    advice = advise(report)
    ship = advice.ship.sha256 if advice.ship else None
    notes = list(advice.notes)
    if advice.runner_up is not None:
        notes.insert(0, f"Runner-up: {advice.runner_up.path}.")
    parts = [
        f"# {escape(report.recipe)}",
        f"> {escape(SMOKE_BANNER)}" if report.smoke else "",
        f"**{escape(advice.sentence)}**",
        *(escape(note) for note in (*report.notes, *notes)),
        f"How this was chosen: {escape(advice.rule)}",
        *_list(f"{r.path}: {r.reason}" for r in advice.rejected),
        "## Files",
        escape(file_notes(report)),
        _files(report.rows, ship),
        *_smaller(report, advice),
        *_operations(report.rows),
        *_elsewhere(report.elsewhere),
        *_sizes(report),
        *_planned(report),
        *_causes(report),
        *_tradeoff(report.tradeoff),
        *_sensitivity(report.sensitivity),
        *_int8(report.int8_scan),
        *_layers(report),
        *_accounts(report),
        *_steps(report),
        "## Environment",
        *_list(f"{name}: {value}" for name, value in facts(report)),
        "## Not measured",
        *_list(f"{what}: {why}" if why else what for what, why in gaps(report)),
        escape(
            f"Made {report.created} by edgepress, seed {report.seed}, commit "
            f"{report.git_commit or 'not from a git tree'}."
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(rows: Sequence[Row], ship: str | None) -> str:
    columns = file_columns(rows)
    return table(
        ("Name", *columns, "Where"),
        (
            (
                " ".join((row.path, *(f"({f})" for f in _marks(row, ship)))),
                *(_cell(cell) for cell in file_cells(row, columns)),
                where_text(row) or MISSING,
            )
            for row in rows
        ),
    )


def _marks(row: Row, ship: str | None) -> tuple[str, ...]:
    return (*(("ship",) if row.sha256 == ship else ()), *flags(row))


def _cell(cell: Cell) -> str:
    details = ", ".join(part for part in (cell.detail, cell.second) if part)
    return f"{cell.value} ({details})" if details else cell.value


def _smaller(report: Report, advice: Advice) -> list[str]:
    if not report.rows:
        return []
    return [f"## {SMALLER}", *(escape(line) for line in smaller_words(report, advice.ship))]


def _operations(rows: Sequence[Row]) -> list[str]:
    cells = operations.operation_rows(rows)
    if not cells:
        return []
    drawn = table(operations.COLUMNS, cells)
    return [f"## {operations.TITLE}", escape(operations.NOTE), drawn]


def _elsewhere(found: Sequence[DeviceResult]) -> list[str]:
    if not found:
        return []
    drawn = table(device_results.COLUMNS, device_results.device_rows(found))
    return [f"## {device_results.TITLE}", escape(device_results.NOTE), drawn]


def _sizes(report: Report) -> list[str]:
    if not report.sizes:
        return []
    rows = ((p.stage, f"{bytes_text(p.bytes)} ({p.bytes:,} B)") for p in report.sizes)
    return ["## Size by stage", table(("Stage", "Container"), rows)]


def _planned(report: Report) -> list[str]:
    if report.planned is None:
        return []
    held = held_rows(report.planned, report.rows)
    drawn = table(HELD_COLUMNS, [(path, *map(_cell, cells)) for path, cells in held])
    return [f"## {HELD}", escape(held_note(report.planned, report)), drawn]


def _causes(report: Report) -> list[str]:
    accounts = report.sizes_by_cause
    if not accounts:
        return []
    drawn = table(("Name", *cause_columns(accounts)), cause_rows(accounts))
    return [f"## {TITLE}", escape(causes_note(accounts)), drawn]


def _layers(report: Report) -> list[str]:
    weights, _ = weights_and_rest(report.layers)
    if not weights:
        return []
    rows = (
        (
            x.name,
            shape_text(x.shape),
            f"{x.parameters:,}",
            f"{100 * x.sparsity:.1f} %",
            str(x.bits),
            x.encoding,
        )
        for x in weights
    )
    columns = ("Tensor", "Shape", "Weights", "Sparsity", "Bits a value", "Encoding")
    return ["## Layers", table(columns, rows)]


def _tradeoff(found: Tradeoff | None) -> list[str]:
    if found is None:
        return []
    drawn = table(tradeoff.COLUMNS, tradeoff.tradeoff_rows(found))
    return [f"## {tradeoff.TITLE}", escape(tradeoff.tradeoff_note(found)), drawn]


def _sensitivity(scan: SensitivityScan | None) -> list[str]:
    if scan is None or not scan.curves:
        return []
    columns, rows = scan_rows(scan)
    return ["## Sensitivity", escape(sensitivity_note(scan)), table(columns, rows)]


def _int8(scan: Int8Scan | None) -> list[str]:
    if scan is None:
        return []
    parts = [f"## {INT8}", escape(int8_note(scan))]
    parts.append(table(COLUMNS, [layer_cells(row) for row in scan.layers]))
    return [*parts, table(WAY_COLUMNS, way_rows(scan))] if scan.ways else parts


def _accounts(report: Report) -> list[str]:
    if not report.accounts:
        return []
    parts = ["## Where the bytes are", escape(ACCOUNT_NOTE)]
    for line, rows in account_parts(report.accounts):
        parts += [escape(line), table(ACCOUNT_COLUMNS, rows)]
    return parts


def _steps(report: Report) -> list[str]:
    if not report.steps:
        return []
    rows: list[tuple[str, ...]] = []
    for before, step in pairwise([None, *report.steps]):
        assert step is not None
        top1, nonzeros, touched, spent = step_cells(step, before)
        rows.append((step.stage, step.settings, touched, nonzeros, top1, spent))
    return ["## Steps", table(STEP_COLUMNS, rows, left=2)]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    rule = [":--" if i < left else "--:" for i in range(len(columns))]
    lines = [columns, rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _list(items: Iterable[str]) -> list[str]:
    lines = [f"- {escape(item)}" for item in items]
    return ["\n".join(lines)] if lines else []
