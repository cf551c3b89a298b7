"""report.html: one self-contained page, no script, nothing fetched. A pure function of a Report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from targets.advice import Advice, advise
from targets.charts import latencies, scatter, waterfall
from targets.report import Layer, Report, Row, StepRow
from targets.style import CSS
from targets.svg import escape
from targets.units import (
    bytes_text,
    count_text,
    seconds_text,
    share_text,
    time_text,
)
from targets.words import (
    FILE_COLUMNS,
    MISSING,
    Cell,
    facts,
    file_cells,
    file_notes,
    flags,
    gaps,
    shape_text,
    step_cells,
    weights_and_rest,
    where_text,
)

# Refuses scripts and every fetch, whatever a hostile report.json might smuggle in.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(report: Report) -> str:
    """The whole page."""
    advice = advise(report)
    ship = advice.ship.sha256 if advice.ship else None
    body = [
        _header(report, advice),
        _files(report, ship),
        _charts(report, ship),
        _layers(report.layers),
        _steps(report.steps),
        _environment(report),
        _gaps(report),
        _footer(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.recipe)} · edgepress report</title>\n"
        f"<style>{CSS}</style>\n</head>\n<body>\n" + "\n".join(filter(None, body)) + "\n</body>\n"
        "</html>\n"
    )


def _header(report: Report, advice: Advice) -> str:
    models = sorted({f"{r.model} on {r.dataset}" for r in report.rows})
    points = list(advice.notes)
    others = [r for r in advice.best if r is not advice.ship]
    if advice.runner_up is not None:
        points.insert(0, f"Runner-up: {_summary(advice.runner_up)}.")
    for row in others:
        if row is not advice.runner_up:
            points.insert(1, f"Best .{row.format} file: {_summary(row)}.")
    rejected = "".join(
        f"<li><strong>{escape(r.path)}</strong>: {escape(r.reason)}</li>" for r in advice.rejected
    )
    return (
        f'<header><h1>{escape(report.recipe)}</h1><p class="where">'
        f"{escape(', '.join(models))}</p></header>\n<main>\n"
        f'<section class="verdict{"" if advice.ship else " none"}" aria-label="Advice">'
        f'<p class="first">{escape(advice.sentence)}</p>'
        f"<ul>{''.join(f'<li>{escape(p)}</li>' for p in points)}</ul>"
        f"<details open><summary>How this was chosen</summary><p>{escape(advice.rule)}</p>"
        + (f"<p>Left out:</p><ul>{rejected}</ul>" if rejected else "")
        + f"</details></section>\n{_figures(advice)}"
    )


def _summary(row: Row) -> str:
    latency = "" if row.latency_ms is None else f", {time_text(row.latency_ms.median)}"
    top1 = "" if row.top1 is None else f", {share_text(row.top1)}"
    return f"{row.path}, {bytes_text(row.download_bytes)}{top1}{latency}"


def _figures(advice: Advice) -> str:
    """Four numbers of the advised file, each against the fp32 file."""
    ship, reference = advice.ship, advice.reference
    if ship is None or reference is None or ship.latency_ms is None:
        return ""
    assert reference.latency_ms is not None
    assert ship.top1 is not None
    shown = [
        ("Download", bytes_text(ship.download_bytes), bytes_text(reference.download_bytes)),
        ("Top-1", share_text(ship.top1), share_text(ship.top1_fp32 or 0.0)),
        ("Latency", time_text(ship.latency_ms.median), time_text(reference.latency_ms.median)),
        ("Peak memory", *(_cell_memory(r) for r in (ship, reference))),
    ]
    boxes = "".join(
        f'<div><dt>{name}</dt><dd class="big">{escape(value)}</dd>'
        f'<dd class="than">fp32: {escape(other)}</dd></div>'
        for name, value, other in shown
    )
    return f'<dl class="figures">{boxes}</dl>'


def _cell_memory(row: Row) -> str:
    return MISSING if row.peak_rss_bytes is None else bytes_text(row.peak_rss_bytes)


def _files(report: Report, ship: str | None) -> str:
    if not report.rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Name", *FILE_COLUMNS))
    rows = "".join(_file_row(row, ship) for row in report.rows)
    return (
        f"<h2>Files</h2><p>{escape(file_notes(report.rows))}</p>"
        f'<table class="cards files"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _file_row(row: Row, ship: str | None) -> str:
    advised = row.sha256 == ship
    tags = '<span class="tag ship">ship</span>' if advised else ""
    tags += "".join(f'<span class="tag warn">{escape(flag)}</span>' for flag in flags(row))
    where = where_text(row) or row.not_measured.get("runtime", "")
    cells = "".join(
        f'<td data-of="{name}">{_cell(cell)}</td>'
        for name, cell in zip(FILE_COLUMNS, file_cells(row), strict=True)
    )
    kind = ' class="ship"' if advised else ""
    name = f"{escape(row.path)}{tags}<small>{escape(where)}</small>"
    return f'<tr{kind}><th scope="row">{name}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
    return f"{escape(cell.value)}{detail}"


def _charts(report: Report, ship: str | None) -> str:
    known = [r.top1_fp32 for r in report.rows if r.top1_fp32 is not None]
    floor = max(known) - report.max_drop if known else None
    left = scatter(report.rows, floor, ship)
    right = waterfall(report.sizes)
    below = latencies(report.rows, ship)
    if below is not None:
        below += latencies(report.rows, ship, narrow=True) or ""
    pair = _figure(
        "Accuracy against size",
        "Up and to the left is better. Bars: 95 % intervals.",
        left,
    ) + _figure("Size by stage", "Bytes of a real file written after each stage.", right)
    text = "Every raw time, with quartiles (box) and p10–p90 (line); further left is better."
    return (f'<div class="charts">{pair}</div>' if pair else "") + _figure("Latency", text, below)


def _figure(title: str, note: str, drawing: str | None) -> str:
    return f"<figure><h2>{title}</h2><p>{note}</p>{drawing}</figure>" if drawing else ""


def _layers(layers: Sequence[Layer]) -> str:
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


def _steps(steps: Sequence[StepRow]) -> str:
    if not steps:
        return ""
    rows = ""
    for before, step in pairwise([None, *steps]):
        assert step is not None
        top1, nonzeros, touched = step_cells(step, before)
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
            f'<td data-of="Time">{seconds_text(step.seconds)}</td></tr>'
        )
    columns = ("Stage", "Settings", "Touched", "Non-zero", "Validation top-1", "Time")
    total = seconds_text(sum(s.seconds for s in steps))
    return (
        f"<h2>Steps</h2><p>In order, {total} together. Accuracy here is on validation data, on "
        f"which choices are made.</p>" + _table(columns, rows, "cards steps", ("Settings",))
    )


def _table(
    columns: Iterable[str], rows: str, style: str = "cards", left: Sequence[str] = ()
) -> str:
    head = "".join(
        f'<th scope="col"{" class=l" if name in left else ""}>{name}</th>' for name in columns
    )
    return f'<table class="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _environment(report: Report) -> str:
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts(report)
    )
    return f'<h2>Environment</h2><dl class="facts">{pairs}</dl>'


def _gaps(report: Report) -> str:
    lines = "".join(
        f"<li>{escape(what)}{f': {escape(why)}' if why else ''}</li>" for what, why in gaps(report)
    )
    return f'<h2>Not measured</h2><ul class="gaps">{lines}</ul>' if lines else ""


def _footer(report: Report) -> str:
    commit = report.git_commit or "not from a git tree"
    hashes = "".join(
        f"<li><code>{escape(row.sha256)}</code> {escape(row.path)}</li>"
        for row in {r.sha256: r for r in report.rows}.values()
    )
    return (
        f"</main><footer>Made {escape(report.created)} by edgepress, seed {report.seed}, commit "
        f"<code>{escape(commit)}</code>."
        f'<details><summary>SHA-256 of the files</summary><ul class="gaps">{hashes}</ul>'
        "</details></footer>"
    )
