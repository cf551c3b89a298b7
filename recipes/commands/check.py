"""edgepress check: a gate for somebody's CI on a file's size, accuracy and latency."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compress.errors import DataError
from recipes.classifying.answers import ask
from recipes.classifying.changes import compare
from recipes.commands.classify import best_classes, open_both
from recipes.pictures.opening import open_pictures
from recipes.toolbox.criteria import (
    Criterion,
    bytes_criterion,
    drop_criterion,
    latency_criterion,
)
from recipes.toolbox.model_files import as_runnable, need_loadable
from recipes.toolbox.progress import counted_bar
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.formats.onnx_data import bytes_with_data
from targets.measurement import Target

FAILED = 1


def execute(arguments: argparse.Namespace) -> int:
    """Judge `arguments.file` by each criterion asked for, one line each; 0, or 1 where one fails.

    Raises an EdgepressError (exit code 2) where nothing, or not all that was asked, can be judged.
    """
    _check_asked(arguments)
    need_loadable(arguments.file)
    found = list(_judged(arguments))
    passed = all(criterion.passed for criterion in found)
    if arguments.json:
        judged = [criterion.to_dict() for criterion in found]
        raw = {"file": str(arguments.file), "passed": passed, "criteria": judged}
        print(json.dumps(raw, indent=1))
    else:
        for criterion in found:
            print(criterion.line())
    return 0 if passed else FAILED


def _check_asked(arguments: argparse.Namespace) -> None:
    """Refuse options that would leave the user believing in a gate that is not there."""
    drop, slower = arguments.max_drop is not None, arguments.max_latency_ratio is not None
    if not (drop or slower or arguments.max_bytes is not None):
        raise DataError(
            f"nothing to check {arguments.file} for; give --max-bytes SIZE, --max-drop SHARE or "
            f"--max-latency-ratio RATIO"
        )
    if drop and (arguments.images is None or arguments.against is None):
        raise DataError("--max-drop needs pictures and a file to compare with: --images, --against")
    if slower and arguments.against is None:
        raise DataError("--max-latency-ratio needs a file to compare with: --against FILE")
    if arguments.images is not None and not drop:
        raise DataError("--images is for --max-drop, which was not given; give it, e.g. 1%")
    if arguments.against is not None and not (drop or slower):
        raise DataError("--against is for --max-drop and --max-latency-ratio; give one of them")
    same = arguments.against is not None and arguments.against.exists()
    if same and arguments.file.exists() and arguments.against.samefile(arguments.file):
        raise DataError(f"--against is {arguments.file} itself; give the uncompressed file")


def _judged(arguments: argparse.Namespace) -> Iterator[Criterion]:
    if arguments.max_bytes is not None:
        yield bytes_criterion(bytes_with_data(arguments.file), arguments.max_bytes)
    if arguments.max_drop is not None:
        yield _drop(arguments)
    if arguments.max_latency_ratio is not None:
        yield _latency(arguments)


def _drop(arguments: argparse.Namespace) -> Criterion:
    file, reference = open_both(arguments)
    assert reference is not None
    pictures = open_pictures(arguments.images, best_classes(file, reference))
    found = compare(ask(file, pictures), ask(reference, pictures), pictures)
    return drop_criterion(found, arguments.max_drop)


def _latency(arguments: argparse.Namespace) -> Criterion:
    """Containers are timed as the .onnx that they decode to: what a runtime would load."""
    with tempfile.TemporaryDirectory() as folder, counted_bar("measuring") as progress:
        # A folder each: two files of one name stay two.
        files = [
            as_runnable(path, Path(folder) / place)
            for place, path in (("file", arguments.file), ("against", arguments.against))
        ]
        target = Target(LocalDevice(), arguments.threads)
        measured = benchmark(files, [target], progress=progress)
    return latency_criterion(measured, arguments.max_latency_ratio)
