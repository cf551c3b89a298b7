"""A plan held against the run: what was predicted before training beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from targets.planning.judging import compared
from targets.planning.plan import Figures, Judged, Plan, PlannedFile
from targets.planning.verdicts import QUESTIONS
from targets.planning.words import ANSWERS, mark
from targets.report import Row
from targets.units import bytes_text, count_text, time_text
from targets.words import MISSING

TITLE = "Predicted before training, and measured"
COLUMNS = (
    *("File", "Size", "Download", "MACs", "Non-zero", "Latency", "Memory after load"),
    "Does it pay?",
)


def held_note(plan: Plan) -> str:
    """What the figures are."""
    times = (
        "Times and memory were those of the untrained files on the machine as it was then."
        if any(file.figures and file.figures.latency_ms for file in plan.files)
        else ""
    )
    return " ".join(
        (
            f"What edgepress plan said on {plan.created} of the untrained net ({plan.cpu}), then "
            f"what this run measured. {times} Does it pay, against the fp32 file: as the rules "
            f"said; ✓ where this run's figures confirm it, ✗ where they contradict it.",
            *plan.notes,
        )
    )


def held_rows(plan: Plan, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A row of COLUMNS for each file of the plan, and for each of the run that was not planned."""
    found = [_row(file, rows) for file in plan.files]
    known = {file.path for file in plan.files}
    new = dict.fromkeys(row.path for row in rows if row.path not in known)
    return [*found, *((path, "not planned", *[MISSING] * (len(COLUMNS) - 2)) for path in new)]


def _row(file: PlannedFile, rows: Sequence[Row]) -> tuple[str, ...]:
    row = _row_of(file.path, file.threads, rows)
    own = file.figures
    if row is None or own is None:
        return (file.path, "not delivered", *[MISSING] * (len(COLUMNS) - 2))
    seen = figures_of(row)
    reference = _row_of(file.against, file.threads, rows)
    return (
        file.path,
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


def _cell(said: float | None, seen: float | None, text: Callable[[float], str]) -> str:
    """'34.8 kB → 34.6 kB (−0.6 %)', or '2,293,000, exactly'."""
    if said is None or seen is None:
        return MISSING
    if said == seen:
        return f"{text(said)}, exactly"
    change = f"{100 * (seen / said - 1):+.1f} %".replace("-", "−") if said else "from 0"
    return f"{text(said)} → {text(seen)} ({change})"


def _pays(verdicts: Sequence[Judged], before: Figures | None, after: Figures) -> str:
    """'smaller file: yes ✓, faster: no ✗'; a dash for the file that others are compared with."""
    said = {verdict.question: verdict for verdict in verdicts}
    parts: list[str] = []
    for question in QUESTIONS:
        verdict = said.get(question)
        if verdict is None or verdict.answer == "not run":
            continue
        ratio, seen = (None, None) if before is None else compared(question, before, after)
        again = Judged(question, verdict.answer, verdict.reason, ratio, seen)
        parts.append(f"{ANSWERS[question]}: {mark(again)}")
    return ", ".join(parts) or MISSING
