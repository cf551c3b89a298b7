"""Names of delivered files: NET-LABEL.SUFFIX, each written once."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from compress.errors import RecipeError
from recipes.toolbox.delivery import exporter_of

# What every file system and shell takes as it is, at a length that leaves room for the net's name.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def new_stem(
    folder: Path, net: str, label: str, formats: Sequence[str], taken: Collection[Path]
) -> Path:
    """`folder`/`net`-`label`, under which no file of `formats` is among the `taken`.

    Raises RecipeError for a label that is no plain name and for a file that would be written
    twice, ExportError for an unknown format.
    """
    if not _LABEL.fullmatch(label):
        raise RecipeError(
            f"label {label!r} cannot stand in a file name; 1 to 64 letters, digits, '.', '_' and "
            f"'-' are allowed, a letter or digit first: change it in job.deliver"
        )
    stem = folder / f"{net}-{label}"
    written = set(taken)
    for form in formats:
        path = stem.with_name(stem.name + exporter_of(form).suffix)
        if path in written:
            raise RecipeError(
                f"{path.name} is delivered already; give each job.deliver its own label, and each "
                f"format once"
            )
        written.add(path)
    return stem
