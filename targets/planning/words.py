"""A plan's verdicts and figures in words and cells, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping

from targets.planning.plan import Figures, Judged
from targets.units import bytes_text, time_text
from targets.words import MISSING, shown

ANSWERS: Mapping[str, str] = {
    "file": "smaller file",
    "download": "smaller download",
    "latency": "faster",
    "memory": "less memory",
}
SHORT: Mapping[str, str] = {
    "file": "file",
    "download": "download",
    "latency": "faster",
    "memory": "memory",
}
QUESTION_HEADS = ("file?", "download?", "faster?", "memory?")
OPEN = "?"
CONFIRMED, CONTRADICTED, UNCLEAR = "✓", "✗", "~"
LEGEND = (
    f"file?, download?, faster?, memory?: is it smaller or faster, by the rules; {CONFIRMED} the "
    f"measured file confirms it, {CONTRADICTED} it contradicts it, {UNCLEAR} the times are too "
    f"noisy to say; {OPEN} the rules leave it to the measurement. time: median of one call; "
    "memory: after loading, less what was before. Both of the untrained file, which takes what "
    "the trained one will."
)


def mark(said: Judged) -> str:
    """'yes ✓', 'no ✗', 'yes ~', '?', '? yes', '? ~'; a dash for what is not run."""
    if said.answer == "not run":
        return MISSING
    if said.answer == "perhaps":
        seen = {None: "", "unclear": UNCLEAR}.get(said.seen, said.seen or "")
        return f"{OPEN} {seen}".rstrip()
    if said.agrees is None:
        return f"{said.answer} {UNCLEAR}" if said.seen == "unclear" else said.answer
    return f"{said.answer} {CONFIRMED if said.agrees else CONTRADICTED}"


def time_cell(figures: Figures) -> str:
    return shown(figures.latency_ms, time_text)


def memory_cell(figures: Figures) -> str:
    return shown(figures.memory_bytes, bytes_text)
