"""The output folder of a run: marked as ours, never mixed, never silently lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from compress.atomic import sweep, write_text
from compress.errors import OutputError
from recipes.toolbox.lock import FolderLock

MARK = "edgepress-run.json"
# Of `edgepress plan`, made before the run: no output of a run, so none replaces it.
PLAN = "plan.json"
_MOST_THREADS = 4096


@dataclass(frozen=True)
class Identity:
    """What a folder belongs to; only the same run may resume in it.

    `threads` is how many torch computes with. The order of sums, and so every byte, depends on it:
    a resumed run takes the number that it was begun with. `processes` is how many a launcher
    started, of which the same is true, but which nobody else can set.
    """

    recipe: str
    seed: int
    smoke: bool
    threads: int
    processes: int = 1


@dataclass(frozen=True)
class RunFolder:
    """A folder ready to be written in, and held against other runs until the lock is closed."""

    path: Path
    identity: Identity
    lock: FolderLock


def open_folder(
    folder: Path, asked: Identity, *, resume: bool | None, overwrite: bool
) -> RunFolder:
    """Make `folder` ready for the run `asked`, or raise OutputError and touch nothing.

    A folder with anything in it is refused, unless it bears our mark and --resume (the same run)
    or --overwrite (any earlier run's output, which is removed) is given. A folder with nothing but
    our mark (the run failed before it began) and a plan counts as empty; a plan stays. `resume` is
    None for a command that knows no --resume.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"output {folder} is not a folder; give a new one with --out")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
        identity = _enter(folder, asked, resume=resume, overwrite=overwrite)
        sweep(folder)
        write_text(folder / MARK, json.dumps(asdict(identity), sort_keys=True) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"output folder {folder} cannot be written ({reason}); give another with --out"
        ) from error
    return RunFolder(folder, identity, lock)


def _enter(folder: Path, asked: Identity, *, resume: bool | None, overwrite: bool) -> Identity:
    """Whose the folder is from now on; what --overwrite replaces is removed."""
    # A mark that a kill left half-written stands aside under such a name.
    own = (MARK, f".{MARK}.")
    names = [entry.name for entry in folder.iterdir()]
    filled = any(name != PLAN and not name.startswith(own) for name in names)
    if not filled and not _is_foreign(folder):
        return asked
    found = _read_mark(folder)
    if overwrite:
        _empty(folder)
        return asked
    if not resume:
        way = "--overwrite" if resume is None else "--resume to go on, --overwrite"
        raise OutputError(
            f"output folder {folder} holds an earlier run; add {way} to replace it, or give "
            f"another folder with --out"
        )
    if replace(found, threads=asked.threads) != asked:
        raise OutputError(
            f"output folder {folder} holds {_words(found)}, not {_words(asked)}; --resume goes on "
            f"with the same run only: add --overwrite, or give another folder with --out"
        )
    return found


def _is_foreign(folder: Path) -> bool:
    """True where something that is no mark of ours has its name."""
    mark = folder / MARK
    return mark.is_symlink() or (mark.exists() and not mark.is_file())


def _read_mark(folder: Path) -> Identity:
    """Whose run the folder holds; OutputError where it is nobody's that we know."""
    mark = folder / MARK
    if _is_foreign(folder) or not mark.exists():
        raise OutputError(
            f"output folder {folder} is not empty and not of an edgepress run; give an empty or "
            f"new folder with --out"
        )
    try:
        found = Identity(**json.loads(mark.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise OutputError(f"{mark} is damaged; give another folder with --out") from error
    if type(found.threads) is not int or not 1 <= found.threads <= _MOST_THREADS:
        raise OutputError(f"{mark} is damaged; give another folder with --out")
    return found


def _empty(folder: Path) -> None:
    """Remove all but the mark and a plan: a kill meanwhile leaves a folder that is still ours."""
    if folder.is_symlink():
        raise OutputError(
            f"output folder {folder} is a symbolic link, which --overwrite does not follow; give "
            f"the folder itself with --out"
        )
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name not in (MARK, PLAN):
            entry.unlink()


def _words(run: Identity) -> str:
    processes = "" if run.processes == 1 else f" by {run.processes} processes"
    kind = "a smoke run" if run.smoke else "a run"
    return f"{kind} of {run.recipe} with seed {run.seed}{processes}"
