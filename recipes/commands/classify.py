"""edgepress classify: what a file takes pictures for, and where it parts from another file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.errors import DataError, OutputError
from recipes.classifying import text
from recipes.classifying.answers import Answers, ask
from recipes.classifying.changes import Comparison, check_comparable, compare, names_for
from recipes.pictures.gathering import gather
from recipes.pictures.sources import Pictures
from recipes.toolbox.class_names import short_names
from recipes.toolbox.model_files import ModelFile, open_file

# More changed answers than are told apart by file names alone.
_HANDFUL = 5


def execute(arguments: argparse.Namespace) -> None:
    """Print the likeliest classes of each picture, or with --against where the answers changed."""
    file, reference = open_both(arguments)
    _check_sheet(arguments.sheet, overwrite=arguments.overwrite, compared=reference is not None)
    pictures = gather(arguments.images, best_classes(file, reference))
    names = names_for(file, (reference.classes if reference else (), pictures.classes))
    answers = ask(file, pictures)
    if reference is None:
        _tell(arguments, file, answers, pictures, names)
        return
    before = ask(reference, pictures)
    found = compare(answers, before, pictures)
    if arguments.sheet is not None:
        from recipes.classifying.sheet import write_sheet

        write_sheet(arguments.sheet, found, (file, reference), pictures, short_names(names))
    if arguments.json:
        raw = _head(file, answers) | {"against": _head(reference, before)}
        print(json.dumps(raw | text.comparison_json(found, names), indent=1))
        return
    _tell_changes(arguments.sheet, found, (file, answers), (reference, before), short_names(names))


def open_both(arguments: argparse.Namespace) -> tuple[ModelFile, ModelFile | None]:
    """FILE and the reference of --against, if any; DataError where they do not go together."""
    options = {"preprocess": arguments.preprocess, "labels": arguments.labels}
    file = open_file(arguments.file, **options)
    reference = open_file(arguments.against, **options) if arguments.against else None
    if arguments.preprocess and all(opened.told for opened in (file, reference) if opened):
        raise DataError(
            f"--preprocess {arguments.preprocess} was given, but {file.path} says itself how "
            f"pictures are prepared for it; leave --preprocess out"
        )
    if reference is not None:
        check_comparable(file, reference)
    return file, reference


def best_classes(file: ModelFile, reference: ModelFile | None) -> tuple[str, ...]:
    """By what names labels are understood: the reference's where only it knows any."""
    if reference is not None and reference.named and not file.named:
        return reference.classes
    return file.classes


def _check_sheet(path: Path | None, *, overwrite: bool, compared: bool) -> None:
    """Refuse before any work what could not be written after it."""
    if path is None:
        return
    if not compared:
        raise DataError("--sheet shows changed answers; give the file to compare with, --against")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give --sheet a file, as changes.html")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already; add --overwrite to replace it")


def _tell(
    arguments: argparse.Namespace,
    file: ModelFile,
    answers: Answers,
    pictures: Pictures,
    names: Sequence[str],
) -> None:
    if arguments.json:
        raw = _head(file, answers)
        print(
            json.dumps(raw | {"pictures": text.top_json(answers, pictures, names, arguments.top)})
        )
        return
    print(text.source_text(file, answers))
    for line in text.top_lines(answers, pictures, short_names(names), arguments.top):
        print(line)
    accuracy = text.accuracy_line(answers, pictures)
    if accuracy is not None:
        print(accuracy)


def _tell_changes(
    sheet: Path | None,
    found: Comparison,
    ours: tuple[ModelFile, Answers],
    theirs: tuple[ModelFile, Answers],
    names: Sequence[str],
) -> None:
    print(text.source_text(*ours))
    print(text.source_text(*theirs))
    for change in found.changes:
        print(text.change_line(change, names))
    for line in text.count_lines(found, ours[0].path, theirs[0].path):
        print(line)
    if sheet is not None:
        print(f"{sheet}: the changed answers with their pictures")
    elif len(found.changes) > _HANDFUL:
        print("--sheet changes.html shows them with their pictures")


def _head(file: ModelFile, answers: Answers) -> dict[str, Any]:
    return {"file": str(file.path), "classes": len(file.classes), "outputs": answers.kind}
