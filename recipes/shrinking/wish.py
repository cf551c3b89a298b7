"""What is asked of shrink, as the command line says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_MAX_DROP = 0.01
DEFAULT_TARGETS = ("local",)


@dataclass(frozen=True)
class Wish:
    """`model`: a path or 'module:function'. `images` calibrate and select, `test` only scores.

    `budget_bytes`: the most faithful file of at most so many bytes is asked for; without it, the
    smallest download that loses at most `max_drop` of top-1, in [0, 1]. `preprocess`: a name or a
    .json file (see pictures.presets). `targets`: where files are timed.
    """

    model: str
    images: Path
    out: Path
    weights: Path | None = None
    preprocess: str | None = None
    labels: Path | None = None
    test: Path | None = None
    budget_bytes: int | None = None
    max_drop: float = DEFAULT_MAX_DROP
    targets: tuple[str, ...] = DEFAULT_TARGETS
    overwrite: bool = False
