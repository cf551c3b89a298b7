"""report.html: one self-contained page, no script, nothing fetched. A pure function of a Report."""

from __future__ import annotations

from collections.abc import Sequence

from targets.account_page import account_tables
from targets.advice import Advice, advise
from targets.charts import waterfall
from targets.html import html_page
from targets.int8_page import int8_section
from targets.latency_chart import latencies
from targets.loss import fidelity_of
from targets.page_tables import (
    devices_table,
    environment,
    files_table,
    layers_table,
    operations_table,
    sensitivity_table,
    steps_table,
    unmeasured,
)
from targets.planning.page import plan_section
from targets.report import Report
from targets.report_row import Row
from targets.scatter_axes import LATENCY
from targets.scatter_chart import scatter
from targets.sensitivity_chart import curves
from targets.sizing.page import causes_section
from targets.smaller import TITLE, is_smaller, smaller_words
from targets.style import CSS
from targets.svg import escape
from targets.tradeoff_page import tradeoff_section
from targets.units import bytes_text, share_text, threads_text, time_text
from targets.words import SMOKE_BANNER, sensitivity_note, shown


def page(report: Report) -> str:
    """The whole page."""
    advice = advise(report)
    ship = advice.ship.sha256 if advice.ship else None
    body = [
        _header(report, advice),
        files_table(report, ship),
        _charts(report, ship),
        plan_section(report),
        _smaller(report, advice),
        operations_table(report.rows),
        devices_table(report.elsewhere),
        causes_section(report.sizes_by_cause, report.rows, ship),
        tradeoff_section(report.tradeoff),
        _sensitivity(report),
        int8_section(report.int8_scan),
        layers_table(report.layers),
        account_tables(report.accounts),
        steps_table(report.steps),
        environment(report),
        unmeasured(report),
        _footer(report),
    ]
    return html_page(f"{report.recipe} · edgepress report", body, CSS)


def _header(report: Report, advice: Advice) -> str:
    models = sorted({f"{r.model} on {r.dataset}" for r in report.rows if not is_smaller(r)})
    points = list(advice.notes)
    others = [r for r in advice.best if r is not advice.ship]
    if advice.runner_up is not None:
        points.insert(0, f"Runner-up: {_summary(advice.runner_up)}.")
    for row in others:
        if row is not advice.runner_up:
            points.insert(1, f"Best .{row.format} file: {_summary(row)}.")
    banner = f'<p class="smoke" role="note">{escape(SMOKE_BANNER)}</p>' if report.smoke else ""
    rejected = "".join(
        f"<li><strong>{escape(r.path)}</strong>: {escape(r.reason)}</li>" for r in advice.rejected
    )
    return (
        f'<header><h1>{escape(report.recipe)}</h1><p class="where">'
        f"{escape(', '.join(models))}</p></header>\n<main>\n{banner}"
        f'<section class="verdict{"" if advice.ship else " none"}" aria-label="Advice">'
        f'<p class="first">{escape(advice.sentence)}</p>{_notes(report)}'
        f"<ul>{''.join(f'<li>{escape(p)}</li>' for p in points)}</ul>"
        f"<details open><summary>How this was chosen</summary><p>{escape(advice.rule)}</p>"
        + (f"<p>Left out:</p><ul>{rejected}</ul>" if rejected else "")
        + f"</details></section>\n{_figures(advice)}"
    )


def _notes(report: Report) -> str:
    return "".join(f"<p>{escape(note)}</p>" for note in report.notes)


def _summary(row: Row) -> str:
    latency = "" if row.latency_ms is None else f", {time_text(row.latency_ms.median)}"
    value = fidelity_of(row)
    fidelity = "" if value is None else f", {share_text(value)}"
    kind = ", a smaller net" if is_smaller(row) else ""
    return f"{row.path}{kind}, {bytes_text(row.download_bytes)}{fidelity}{latency}"


def _figures(advice: Advice) -> str:
    """Four numbers of the advised file, each against the fp32 file."""
    ship, reference = advice.ship, advice.reference
    if ship is None or reference is None or ship.latency_ms is None:
        return ""
    assert reference.latency_ms is not None
    figures = [
        ("Download", bytes_text(ship.download_bytes), bytes_text(reference.download_bytes)),
        _fidelity(ship, reference),
        ("Latency", time_text(ship.latency_ms.median), time_text(reference.latency_ms.median)),
        ("Peak memory", *(_cell_memory(r) for r in (ship, reference))),
    ]
    boxes = "".join(
        f'<div><dt>{name}</dt><dd class="big">{escape(value)}</dd>'
        f'<dd class="than">fp32: {escape(other)}</dd></div>'
        for name, value, other in figures
    )
    return f'<dl class="figures">{boxes}</dl>'


def _fidelity(ship: Row, reference: Row) -> tuple[str, str, str]:
    """top-1 against the fp32 net's; without labels the agreement of both files."""
    if ship.top1 is not None:
        return "Top-1", share_text(ship.top1), share_text(ship.top1_fp32 or 0.0)
    return "Agreement", shown(ship.agreement, share_text), shown(reference.agreement, share_text)


def _cell_memory(row: Row) -> str:
    return shown(row.peak_rss_bytes, bytes_text)


def _charts(report: Report, ship: str | None) -> str:
    known = [r.top1_fp32 for r in report.rows if r.top1_fp32 is not None]
    floor = max(known) - report.max_drop if known and report.budget_bytes is None else None
    what = "Accuracy" if known else "Agreement with the original"
    better = "Up and to the left is better. Bars: 95 % intervals"
    below = latencies(report.rows, ship)
    if below is not None:
        below += latencies(report.rows, ship, narrow=True) or ""
    grid = _figure(f"{what} against size", f"{better}.", scatter(report.rows, floor, ship))
    for where, rows in _by_target(report.rows).items():
        note = f"{better}; sideways p10–p90; {escape(where)}."
        drawing = scatter(rows, floor, ship, LATENCY)
        grid += _figure(f"{what} against latency", note, drawing)
    note = "Bytes of a real container (.dc) after each stage that led to the last net delivered."
    grid += _figure("Size by stage", note, waterfall(report.sizes))
    text = "Every raw time, with quartiles (box) and p10–p90 (line); further left is better."
    return (f'<div class="charts">{grid}</div>' if grid else "") + _figure("Latency", text, below)


def _by_target(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The timed rows of each device and number of threads: times of two are not compared."""
    targets: dict[str, list[Row]] = {}
    for row in rows:
        if row.latency_ms is not None:
            targets.setdefault(f"{row.device}, {threads_text(row.threads)}", []).append(row)
    return targets


def _smaller(report: Report, advice: Advice) -> str:
    lines = smaller_words(report, advice.ship) if report.rows else ()
    said = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<section class="smaller"><h2>{TITLE}</h2>{said}</section>' if said else ""


def _sensitivity(report: Report) -> str:
    scan = report.sensitivity
    if scan is None:
        return ""
    drawing = curves(scan)
    if drawing is not None:
        drawing += (curves(scan, narrow=True) or "") + sensitivity_table(scan)
    return _figure("Sensitivity", escape(sensitivity_note(scan)), drawing)


def _figure(title: str, note: str, drawing: str | None) -> str:
    return f"<figure><h2>{title}</h2><p>{note}</p>{drawing}</figure>" if drawing else ""


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
