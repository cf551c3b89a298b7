"""The options of the commands that run a model file on pictures: classify, check, compare."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.toolbox.quantities import parse_bytes, parse_ratio, parse_share

Whole = Callable[[str], int]


def add_classify(commands: Any, positive: Whole) -> None:
    """`commands`: argparse's subparsers; `positive` reads a whole number above 0."""
    classify = commands.add_parser("classify", help="what a model file takes pictures for")
    classify.add_argument("file", type=Path, metavar="FILE", help=".onnx, .tflite or .dc")
    classify.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="picture files and folders of them"
    )
    classify.add_argument("--top", type=positive, default=5, help="classes shown (default 5)")
    classify.add_argument("--against", type=Path, metavar="FILE", help="show changed answers only")
    classify.add_argument(
        "--sheet", type=Path, metavar="PATH", help="with --against: the changed pictures as a page"
    )
    classify.add_argument("--overwrite", action="store_true", help="replace PATH if it is there")
    _add_reading(classify)
    classify.add_argument("--json", action="store_true", help="print JSON")


def add_check(commands: Any, positive: Whole) -> None:
    """As `add_classify`."""
    check = commands.add_parser(
        "check",
        help="exit code 1 where a file is too large, too wrong or too slow",
        epilog="exit code: 0 all criteria hold, 1 one fails, 2 nothing could be judged",
    )
    check.add_argument("file", type=Path, metavar="FILE", help=".onnx, .tflite or .dc")
    check.add_argument("--max-bytes", type=parse_bytes, metavar="SIZE", help="e.g. 1.5MB, 900KiB")
    check.add_argument(
        "--max-drop",
        type=parse_share,
        metavar="SHARE",
        help="top-1 points lost against --against on --images, e.g. 1%%; without labels, "
        "changed answers",
    )
    check.add_argument(
        "--max-latency-ratio", type=parse_ratio, metavar="RATIO", help="to --against, e.g. 1.1"
    )
    check.add_argument("--against", type=Path, metavar="FILE", help="the uncompressed file")
    check.add_argument("--images", type=Path, metavar="DIR", help="pictures, best labelled")
    check.add_argument("--threads", type=positive, default=1, help="for latency (default 1)")
    _add_reading(check)
    check.add_argument("--json", action="store_true", help="print JSON")


def add_compare(commands: Any, positive: Whole) -> None:
    """As `add_classify`."""
    compare = commands.add_parser(
        "compare", help="what two files of one net differ by, and where they part"
    )
    for name in ("first", "second"):
        compare.add_argument(name, type=Path, metavar="FILE", help=".onnx, .tflite or .dc")
    compare.add_argument("--layers", action="store_true", help="tensor by tensor, and the grids")
    compare.add_argument(
        "--data", type=Path, metavar="PICTURES", help="a folder, .csv or .npz; else drawn at random"
    )
    compare.add_argument("--most", type=positive, default=256, help="pictures (default 256)")
    compare.add_argument(
        "--preprocess",
        metavar="NAME",
        help="for files of other makers: imagenet, caffe, inception, unit, or a .json file",
    )
    compare.add_argument("--json", action="store_true", help="print JSON")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preprocess",
        metavar="NAME",
        help="for files of other makers: imagenet, caffe, inception, unit, or a .json file",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="class names: a .json list or one a line"
    )
