"""A plan on the terminal, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from recipes.toolbox.columns import columns
from targets.planning.plan import Judged, Plan, PlannedFile, PlannedStage
from targets.planning.words import ANSWERS, LEGEND, QUESTION_HEADS, mark, memory_cell, time_cell
from targets.units import bytes_text, count_text, threads_text
from targets.words import common_start

WIDTH = 100
_FIGURES = ("file", "download", "time", "memory")
_NAME = 24


def plan_lines(plan: Plan) -> Iterator[str]:
    """Stages, then for each target what each stage does to its file, then the files delivered."""
    net = f" --net {plan.net}" if plan.net else ""
    yield f"Plan of {plan.recipe}{net}: nothing was trained. {plan.cpu}."
    for note in plan.notes:
        yield from textwrap.wrap(note, WIDTH)
    yield ""
    yield from _stages(plan.stages)
    for form in _formats(plan):
        yield ""
        yield from _target(plan, form)
    yield ""
    yield from _files(plan.files)
    yield ""
    yield from textwrap.wrap(LEGEND, WIDTH)
    yield ""
    yield from _reasons(plan)


def _stages(stages: Sequence[PlannedStage]) -> Iterator[str]:
    """What is counted of the nets themselves."""
    head = ("stage", "after", "MACs", "parameters", "non-zero", "planned as")
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        after = "" if stage.after is None else str(stage.after)
        counts = (stage.macs, stage.parameters, stage.nonzeros)
        names = [form.partition("(")[0] for form in stage.planned_as]
        planned = ", ".join(name for name in names if name != "FineTune" or len(names) == 1)
        how = "the same net" if stage.same else f"{planned}, untrained" if planned else ""
        rows.append((_label(stage), after, *map(count_text, counts), _cut(how, 34)))
    yield from columns(head, rows, ("stage", "planned as"))


def _formats(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(file.format for stage in plan.stages for file in stage.files))


def _target(plan: Plan, form: str) -> Iterator[str]:
    """One format on its runtime: each stage against the one that it came after."""
    found = [(s, f) for s in plan.stages for f in s.files if f.format == form]
    runtime = next((f.runtime for _, f in found if f.runtime), "")
    where = f"{runtime}, {threads_text(found[0][1].threads)}" if runtime else "decoded, not run"
    yield f"{form} ({where}); each against the stage it came after"
    rows = [(_label(stage), *_cells(file)) for stage, file in found]
    yield from columns(("stage", *_FIGURES, *QUESTION_HEADS), rows, ("stage", *QUESTION_HEADS))
    for stage, file in found:
        if file.figures is None:
            yield from _wrapped(f"{_label(stage)}: no file: {file.missing}")


def _files(files: Sequence[PlannedFile]) -> Iterator[str]:
    yield "What the recipe will deliver, against the untouched fp32 file"
    start = common_start([file.path for file in files])
    rows = [(_cut(file.path[start:], _NAME, end=True), *_cells(file)) for file in files]
    yield from columns(("name", *_FIGURES, *QUESTION_HEADS), rows, ("name", *QUESTION_HEADS))


def _cells(file: PlannedFile) -> tuple[str, ...]:
    own = file.figures
    if own is None:
        return ("",) * (len(_FIGURES) + len(QUESTION_HEADS))
    sizes = (bytes_text(own.file_bytes), bytes_text(own.download_bytes))
    marks = [mark(said) for said in file.verdicts] or [""] * len(QUESTION_HEADS)
    return (*sizes, time_cell(own), memory_cell(own), *marks)


def _reasons(plan: Plan) -> Iterator[str]:
    """Each stage's reasons, those that several targets share once; then the files'."""
    for stage in plan.stages:
        told = list(_told([(file.format, file.verdicts) for file in stage.files]))
        if told:
            yield f"{_label(stage)}: why"
            yield from told
    contradicted = [
        (file.path, said) for file in plan.files for said in file.verdicts if said.agrees is False
    ]
    for path, said in contradicted:
        yield from _wrapped(
            f"{path}: {ANSWERS[said.question]}: the rule says {said.answer}, measured "
            f"{said.ratio:.2f} of the fp32 file's: {said.reason}"
        )


def _told(found: Sequence[tuple[str, Sequence[Judged]]]) -> Iterator[str]:
    """A line for each reason: the questions that it answers, the formats that it holds for."""
    shared: dict[tuple[str, str], dict[str, list[str]]] = {}
    for form, verdicts in found:
        for said in verdicts:
            if said.answer == "not run":
                continue
            contradicted = said.agrees is False and said.ratio is not None
            measured = f" (measured {said.ratio:.2f})" if contradicted else ""
            asked = shared.setdefault((said.answer, said.reason), {})
            asked.setdefault(ANSWERS[said.question], []).append(f"{form}{measured}")
    for (answer, reason), asked in shared.items():
        by_forms: dict[str, list[str]] = {}
        for question, forms in asked.items():
            by_forms.setdefault(", ".join(forms), []).append(question)
        where = "; ".join(f"{', '.join(q)} of {forms}" for forms, q in by_forms.items())
        yield from _wrapped(f"{answer}: {where}: {reason}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _label(stage: PlannedStage) -> str:
    return _cut(f"{stage.number:>2} {stage.stage}", _NAME)


def _cut(text: str, most: int, *, end: bool = False) -> str:
    if len(text) <= most:
        return text
    return f"…{text[-most + 1 :]}" if end else f"{text[: most - 1]}…"
