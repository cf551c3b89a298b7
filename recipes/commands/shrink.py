"""edgepress shrink: a model file and a folder of pictures in, the file to ship and a report out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def execute(arguments: argparse.Namespace) -> None:
    """Try the training-free ladder on the net, and say which file to ship."""
    # Before torch is imported; see commands.run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from recipes.shrinking.flow import shrink
    from recipes.shrinking.net import name_of
    from recipes.shrinking.wish import DEFAULT_MAX_DROP, DEFAULT_TARGETS, Wish

    chosen = arguments.max_drop
    shrink(
        Wish(
            model=arguments.model,
            images=arguments.images,
            out=arguments.out or Path("build") / f"shrink-{name_of(arguments.model)}",
            weights=arguments.weights,
            preprocess=arguments.preprocess,
            labels=arguments.labels,
            test=arguments.test,
            budget_bytes=arguments.budget,
            max_drop=DEFAULT_MAX_DROP if chosen is None else chosen,
            targets=tuple(dict.fromkeys(arguments.target or DEFAULT_TARGETS)),
            overwrite=arguments.overwrite,
        )
    )
