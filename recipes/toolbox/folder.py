"""The output folder of a run: marked as ours, never mixed, never silently lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.atomic import sweep, write_text
from compress.errors import OutputError

MARK = "edgepress-run.json"


@dataclass(frozen=True)
class Identity:
    """What a folder belongs to; only the same run may resume in it."""

    recipe: str
    seed: int
    smoke: bool


def open_folder(folder: Path, identity: Identity, *, resume: bool, overwrite: bool) -> None:
    """Make `folder` ready for the run `identity`, or raise OutputError and touch nothing.

    A non-empty folder is refused, unless it bears our mark and --resume (the same run) or
    --overwrite (any earlier run's output, which is removed) is given.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {folder} is a file; give a folder with --out")
    filled = folder.is_dir() and any(folder.iterdir())
    if filled:
        _enter(folder, identity, resume=resume, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        write_text(folder / MARK, json.dumps(asdict(identity), sort_keys=True) + "\n")
    except OSError as error:
        raise OutputError(f"output folder {folder} cannot be written: {error}") from error


def _enter(folder: Path, identity: Identity, *, resume: bool, overwrite: bool) -> None:
    mark = folder / MARK
    if not mark.is_file():
        raise OutputError(
            f"output folder {folder} is not empty and not of an edgepress run; give an empty or "
            f"new folder with --out"
        )
    if overwrite:
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        return
    if not resume:
        raise OutputError(
            f"output folder {folder} holds an earlier run; add --resume to go on, --overwrite to "
            f"replace it, or give another folder with --out"
        )
    try:
        found = Identity(**json.loads(mark.read_text()))
    except (ValueError, TypeError) as error:
        raise OutputError(f"{mark} is damaged; give another folder with --out") from error
    if found != identity:
        raise OutputError(
            f"output folder {folder} holds {found}, not {identity}; --resume continues the same "
            f"run only"
        )
