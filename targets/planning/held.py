"""A plan held against the run: what was predicted before training beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from targets.file_words import Cell
from targets.planning.judging import compared
from targets.planning.plan import Figures, Judged, Plan, PlannedFile
from targets.planning.verdicts import QUESTIONS
from targets.planning.words import SHORT, mark
from targets.report import Report
from targets.report_row import Row
from targets.units import bytes_text, count_text, time_text
from targets.words import MISSING

TITLE = "Predicted before training, and measured"
COLUMNS = (
    *("File", "Size", "Download", "MACs", "Non-zero", "Latency", "Memory after load"),
    "Does it pay?",
)


def held_note(plan: Plan, report: Report) -> str:
    """What the figures are, and which stages of `report` were not planned as they ran."""
    times = (
        "Times and memory were those of the untrained files on the machine as it was then."
        if any(file.figures and file.figures.latency_ms for file in plan.files)
        else ""
    )
    return " ".join(
        (
            f"What edgepress plan said on {plan.created} of the untrained net ({plan.cpu}), then "
            f"what this run measured. {times} Does it pay (smaller file and download, faster, less "
            f"memory than the fp32 file): as the rules said; ✓ where this run's figures confirm "
            f"it, ✗ where they contradict it.",
            *plan.notes,
            *_other_settings(plan, report),
        )
    )


def _other_settings(plan: Plan, report: Report) -> tuple[str, ...]:
    """A recipe may have changed since it was planned; a smoke run's training is shorter anyway."""
    planned = {stage.settings for stage in plan.stages}
    others = dict.fromkeys(s.stage for s in report.steps if s.settings not in planned)
    if report.smoke or not others:
        return ()
    return (
        f"The recipe has changed since: {', '.join(others)} ran with settings that were not "
        f"planned; edgepress plan --overwrite plans it again.",
    )


def held_rows(plan: Plan, rows: Sequence[Row]) -> list[tuple[str, tuple[Cell, ...]]]:
    """(file, cells of the other COLUMNS) for each file of the plan, and each that was not planned.

    A cell has the measured value, beside it the predicted one where they differ.
    """
    found = [(file.path, _cells(file, rows)) for file in plan.files]
    known = {file.path for file in plan.files}
    new = dict.fromkeys(row.path for row in rows if row.path not in known)
    return [*found, *((path, _empty("not planned")) for path in new)]


def _empty(why: str) -> tuple[Cell, ...]:
    return (Cell(MISSING, why), *[Cell(MISSING)] * (len(COLUMNS) - 2))


def _cells(file: PlannedFile, rows: Sequence[Row]) -> tuple[Cell, ...]:
    row = _row_of(file.path, file.threads, rows)
    own = file.figures
    if row is None or own is None:
        return _empty("not delivered")
    seen = figures_of(row)
    reference = _row_of(file.against, file.threads, rows)
    return (
        _cell(own.file_bytes, seen.file_bytes, bytes_text),
        _cell(own.download_bytes, seen.download_bytes, bytes_text),
        _cell(file.macs, row.macs, lambda n: count_text(int(n))),
        _cell(file.nonzeros, row.nonzeros, lambda n: count_text(int(n))),
        _cell(own.latency_ms, seen.latency_ms, time_text),
        _cell(own.memory_bytes, seen.memory_bytes, bytes_text),
        _pays(file.verdicts, None if reference is None else figures_of(reference), seen),
    )


def figures_of(row: Row) -> Figures:
    """A measured row as a plan has it."""
    base, loaded = row.rss_base_bytes, row.rss_load_bytes
    return Figures(
        row.file_bytes,
        row.download_bytes,
        None if row.latency_ms is None else row.latency_ms.median,
        row.times_ms or (),
        None if base is None or loaded is None else max(0, loaded - base),
    )


def _row_of(path: str, threads: int, rows: Sequence[Row]) -> Row | None:
    alike = [row for row in rows if row.path == path]
    return next((row for row in alike if row.threads in (threads, None)), None)


def _cell(said: float | None, seen: float | None, text: Callable[[float], str]) -> Cell:
    """'34.6 kB', 'said 34.8 kB', '−0.6 %'; 'as said' where it came true exactly."""
    if said is None or seen is None:
        return Cell(MISSING)
    if said == seen:
        return Cell(text(seen), "as said")
    change = f"{100 * (seen / said - 1):+.1f} %".replace("-", "−") if said else ""
    if change[1:] == "0.0 %":
        change = ""
    same = text(seen) == text(said) and not change
    return Cell(text(seen), "as said" if same else f"said {text(said)}", change)


def _pays(verdicts: Sequence[Judged], before: Figures | None, after: Figures) -> Cell:
    """'file: yes ✓, download: yes ✓', 'faster: no ✗, memory: no ✓'."""
    said = {verdict.question: verdict for verdict in verdicts}
    parts: list[str] = []
    for question in QUESTIONS:
        verdict = said.get(question)
        if verdict is None or verdict.answer == "not run":
            continue
        ratio, seen = (None, None) if before is None else compared(question, before, after)
        again = Judged(question, verdict.answer, verdict.reason, ratio, seen)
        parts.append(f"{SHORT[question]}: {mark(again)}")
    return Cell(", ".join(parts[:2]) or MISSING, ", ".join(parts[2:]))
