"""edgepress compare: what two files of one net differ by: answers, tensors, grids."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from compress.errors import DataError
from recipes.toolbox.columns import columns
from recipes.toolbox.progress import busy
from recipes.toolbox.two_files import Opened, Shown, open_pair
from targets.file_difference import (
    AnswerDifference,
    GridComparison,
    TensorDifference,
    answer_difference,
    first_parting,
    grid_comparison,
    largest_fall,
    tensor_differences,
)

_COLUMNS = ("tensor", "other file's", "shape", "SQNR", "rms", "largest", "unit", "grids")
_LONGEST_NAME = 44
_MOST_GRIDS = 20
# Above it only the order of sums differs.
_EXACT_DB = 90.0


def execute(arguments: argparse.Namespace) -> None:
    """Print what `arguments.first` and `arguments.second` differ by.

    Raises an EdgepressError for files that cannot be run, or are not of one net.
    """
    both = arguments.first.exists() and arguments.second.exists()
    if both and arguments.first.samefile(arguments.second):
        raise DataError(f"{arguments.first} is given twice; give two files of one net")
    files = open_pair(arguments.first, arguments.second)
    shown = Shown(files, arguments.data, arguments.preprocess, arguments.most)
    with busy() as now:
        now("comparing answers")
        answers = _answers(files, shown)
        tensors, grids, ends = None, None, ("", "")
        if arguments.layers:
            now("comparing tensors")
            ours, theirs = ((f.tensors(shown.few()), f.grids()) for f in files)
            tensors = tensor_differences(ours, theirs)
            grids = grid_comparison(tensors, ours[1], theirs[1])
            ends = (next(reversed(ours[0])), next(reversed(theirs[0])))
    if arguments.json:
        print(json.dumps(_raw(files, shown, answers, tensors, grids), indent=1, allow_nan=False))
        return
    print(f"{files[0].path} and {files[1].path}, on {shown.words()}")
    print("\n".join(_answer_lines(answers)))
    if arguments.data is None and not answers.same:
        print("random inputs tell little of the agreement on pictures: give some by --data")
    if tensors is not None and grids is not None:
        print(f"\ntensors on {shown.few_words()}:")
        lines = (*_table(tensors), *_parting(tensors, answers.same, ends))
        print("\n".join((*lines, *_kernels(files), "", *_grid_lines(grids))))


def _answers(files: tuple[Opened, Opened], shown: Shown) -> AnswerDifference:
    pairs = [(files[0].predict(b), files[1].predict(b)) for b in shown.batches()]
    ours, theirs = (np.concatenate(part) for part in zip(*pairs, strict=True))
    for file, outputs in zip(files, (ours, theirs), strict=True):
        if not np.isfinite(outputs).all():
            raise DataError(f"{file.path} puts out what is no number; export the file anew")
    return answer_difference(ours, theirs)


def _answer_lines(found: AnswerDifference) -> Iterator[str]:
    if found.same:
        yield "answers    the same, to the last bit"
        return
    yield f"answers    SQNR {_db(found.sqnr_db)}, largest difference {found.max_difference:.4g}"
    same = round(found.top1_agreement * found.samples)
    yield f"agreement  {found.top1_agreement:.2%} of the first classes, {same} of {found.samples}"
    yield f"divergence {found.kl:.4g} nats a picture"


def _table(found: tuple[TensorDifference, ...]) -> Iterator[str]:
    if not found:
        yield "no tensor of the one file is like one of the other: are they files of one net?"
        return
    yield from columns(_COLUMNS, [_row(one) for one in found], (*_COLUMNS[:3], *_COLUMNS[-2:]))
    yield ""


def _parting(
    found: tuple[TensorDifference, ...], same: bool, ends: tuple[str, str]
) -> Iterator[str]:
    """`ends`: the last tensors of both files."""
    if same:
        yield "they part nowhere: their answers are the same"
        return
    if not found:
        return
    first, fall = first_parting(found), largest_fall(found)
    if first is None:
        yield (
            f"they part nowhere here: none of {len(found)} tensors differs by more than one "
            f"rounding or another order of sums"
        )
    else:
        rms = f"{_number(first)} in the root mean square"
        other = "" if first.other == first.name else f" (in the other file {first.other})"
        yield f"they part first at {first.name}{other}: {rms}"
    if fall is not None and (fall[1].sqnr_db or 0.0) < _EXACT_DB:
        before, after = fall
        yield (
            f"the SQNR falls most from {before.name}, {_db(before.sqnr_db)}, to {after.name}, "
            f"{_db(after.sqnr_db)}"
        )
    if found[-1].name != ends[0] and found[-1].other != ends[1]:
        yield f"behind {found[-1].name} nothing in the one file is like anything in the other"


def _kernels(files: tuple[Opened, Opened]) -> Iterator[str]:
    """What a reader must know of a .tflite file's inner tensors."""
    if any(file.path.suffix == ".tflite" for file in files):
        yield (
            "inner tensors of a .tflite file are LiteRT's built-in kernels', which round otherwise "
            "than the delegate that answers"
        )


def _row(one: TensorDifference) -> tuple[str, ...]:
    grids = {None: "", True: "same", False: "differ"}[one.same_grid]
    shape = " x ".join(map(str, one.shape))
    numbers = (f"{one.rms:.2g}", f"{one.largest:.3g}")
    unit = "of largest" if one.unit is None else "steps"
    return (_short(one.name), _short(one.other), shape, _db(one.sqnr_db), *numbers, unit, grids)


def _number(one: TensorDifference) -> str:
    if one.unit is None:
        return f"{one.rms:.2g} of the largest magnitude"
    return f"{one.rms:.2f} steps of the grid"


def _grid_lines(found: GridComparison) -> Iterator[str]:
    if not found.tensors and not found.weights:
        yield "grids      not compared: not both are integer files"
        return
    weights = "" if not found.weights else f" and of {found.weights} layers' weights"
    if found.weights is None:
        weights = "; the weights' are not compared, as the files have different numbers of them"
    compared = f"of {found.tensors} tensors{weights}"
    if not found.differences:
        yield f"grids      all the same: scales and zero points {compared}"
        return
    yield f"grids      {len(found.differences)} differ, {compared}:"
    for one in found.differences[:_MOST_GRIDS]:
        other = "" if one.other == one.name else f" ({_short(one.other)})"
        yield f"  {_short(one.name)}{other}: {one.what}"
    if len(found.differences) > _MOST_GRIDS:
        yield f"  and {len(found.differences) - _MOST_GRIDS} more; --json has them all"


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f} dB"


def _short(name: str) -> str:
    """The end of a long name, which is what tells it from others."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _raw(
    files: tuple[Opened, Opened],
    shown: Shown,
    answers: AnswerDifference,
    tensors: tuple[TensorDifference, ...] | None,
    grids: GridComparison | None,
) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "files": [str(file.path) for file in files],
        "pictures": shown.words(),
        "answers": asdict(answers),
    }
    if tensors is not None and grids is not None:
        first = None if answers.same else first_parting(tensors)
        raw["tensors"] = [asdict(one) | {"parts": one.parts} for one in tensors]
        raw["parts_first"] = None if first is None else first.name
        raw["grids"] = asdict(grids)
    return raw
