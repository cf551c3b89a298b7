"""The options of shrink; imports nothing slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.toolbox.quantities import parse_bytes, parse_share

TARGETS = ("local",)


def add_shrink(commands: Any) -> None:
    """`commands`: argparse's subparsers."""
    shrink = commands.add_parser(
        "shrink", help="make a model you already have small, without training or a recipe"
    )
    shrink.add_argument("model", metavar="MODEL", help=".onnx, .pt2 or module:function")
    shrink.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="pictures, labelled or not"
    )
    goal = shrink.add_mutually_exclusive_group()
    goal.add_argument(
        "--max-drop",
        type=parse_share,
        metavar="SHARE",
        help="smallest download that loses at most so much top-1, e.g. 1%% (the default)",
    )
    goal.add_argument(
        "--budget", type=parse_bytes, metavar="SIZE", help="most faithful file of at most SIZE, 1MB"
    )
    shrink.add_argument("--weights", type=Path, metavar="FILE", help="for module:function")
    shrink.add_argument(
        "--preprocess",
        metavar="NAME",
        help="how pictures are prepared: imagenet, caffe, inception, unit, or a .json file",
    )
    shrink.add_argument("--labels", type=Path, metavar="FILE", help="class names: .json or .txt")
    shrink.add_argument(
        "--test", type=Path, metavar="DIR", help="labelled pictures, scored once, at the end"
    )
    shrink.add_argument(
        "--target",
        action="append",
        choices=TARGETS,
        metavar="NAME",
        help=f"where files are timed: {', '.join(TARGETS)} (default local); may be repeated",
    )
    shrink.add_argument("--out", type=Path, help="output folder (default build/shrink-NAME)")
    shrink.add_argument("--overwrite", action="store_true", help="replace an earlier run's output")
