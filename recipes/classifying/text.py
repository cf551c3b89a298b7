"""What classify prints: a picture's likeliest classes, or where two files part. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recipes.classifying.answers import Answers
from recipes.classifying.changes import Change, Comparison
from recipes.pictures.sources import Pictures
from recipes.toolbox.model_files import ModelFile
from targets.units import points_text, share_text, wilson

_WORDS = {
    "lost": "the reference was right",
    "won": "now right",
    "both wrong": "both wrong",
}


def percent(share: float) -> str:
    """A probability with one decimal, '92.1 %'; none is shown as more certain than it is."""
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def source_text(file: ModelFile, answers: Answers) -> str:
    """'net.onnx: 10 classes; puts out logits, softmax applied'."""
    said = "puts out logits, softmax applied"
    if answers.kind == "probabilities":
        said = "puts out probabilities, shown as they are"
    return f"{file.path.name}: {len(file.classes):,} classes; {said}"


def top_lines(
    answers: Answers, pictures: Pictures, names: Sequence[str], count: int
) -> Iterator[str]:
    """A picture's name and label on one line, its `count` likeliest classes below."""
    labels = pictures.labels
    for index in range(len(answers)):
        best = answers.top(index, count)
        said = ""
        if labels is not None:
            verdict = "right" if best[0][0] == labels[index] else "wrong"
            said = f"  (label: {names[labels[index]]}; {verdict})"
        if count == 1:
            number, share = best[0]
            yield f"{pictures.name(index)}  {percent(share):>7}  {names[number]}{said}"
            continue
        yield f"{pictures.name(index)}{said}"
        yield from (f"  {percent(share):>7}  {names[number]}" for number, share in best)


def accuracy_line(answers: Answers, pictures: Pictures) -> str | None:
    """Top-1 with its interval; None without labels."""
    labels = pictures.labels
    if labels is None:
        return None
    right = int((answers.first == labels).sum())
    return f"top-1: {right} of {len(labels)} pictures, {_with_interval(right, len(labels))}"


def change_line(change: Change, names: Sequence[str]) -> str:
    """'a.jpg: vase 61.2 % -> jug 48.0 %, vase 30.1 % (label: vase; the reference was right)'."""
    before, after = names[change.before], names[change.after]
    said = ""
    if change.label is not None and change.verdict is not None:
        said = f" (label: {names[change.label]}; {_WORDS[change.verdict]})"
    tie = ", a tie" if change.tie else ""
    return (
        f"{change.name}: {before} {percent(change.before_share)} -> {after} "
        f"{percent(change.after_share)}, {before} {percent(change.kept_share)}{tie}{said}"
    )


def count_lines(found: Comparison, file: Path, reference: Path) -> Iterator[str]:
    """How many answers changed; with labels, how many for the worse."""
    yield (
        f"{file.name} answers otherwise than {reference.name} on {len(found.changes)} of "
        f"{found.samples} pictures, {_with_interval(len(found.changes), found.samples)}"
    )
    if found.labelled:
        low, high = found.drop_interval()
        yield (
            f"right: {reference.name} {found.right_before}, {file.name} {found.right_after}; "
            f"{found.lost} lost, {found.won} won, {found.count('both wrong')} wrong in both; top-1 "
            f"{points_text(-found.drop)} points, 95 % interval {points_text(-high)} to "
            f"{points_text(-low)}"
        )


def _with_interval(count: int, samples: int) -> str:
    low, high = wilson(count / samples, samples)
    text = f"{share_text(low)} to {share_text(high)}".replace(" % to", " to")
    return f"{share_text(count / samples)} (95 % interval {text})"


def top_json(
    answers: Answers, pictures: Pictures, names: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """`top_lines` as data, one entry a picture."""
    labels = pictures.labels
    return [
        {
            "picture": pictures.name(index),
            "label": None if labels is None else int(labels[index]),
            "top": [
                {"class": number, "name": names[number], "probability": share}
                for number, share in answers.top(index, count)
            ],
        }
        for index in range(len(answers))
    ]


def comparison_json(found: Comparison, names: Sequence[str]) -> dict[str, Any]:
    """A comparison as data; intervals are of 95 %, drops of top-1 in [-1, 1]."""
    raw: dict[str, Any] = {
        "samples": found.samples,
        "changed": len(found.changes),
        "changed_interval": found.changed_interval(),
        "changes": [_change_json(change, names) for change in found.changes],
    }
    if found.labelled:
        raw |= {
            "right_reference": found.right_before,
            "right": found.right_after,
            "lost": found.lost,
            "won": found.won,
            "drop": found.drop,
            "drop_interval": found.drop_interval(),
        }
    return raw


def _change_json(change: Change, names: Sequence[str]) -> dict[str, Any]:
    def entry(number: int, share: float) -> dict[str, Any]:
        return {"class": number, "name": names[number], "probability": share}

    return {
        "picture": change.name,
        "label": change.label,
        "verdict": change.verdict,
        "reference": entry(change.before, change.before_share),
        "file": entry(change.after, change.after_share),
        "file_of_reference_class": change.kept_share,
        "confidence_lost": change.confidence_lost,
    }
