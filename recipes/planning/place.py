"""Where a plan is kept: in the folder that the run will fill, never over another plan unasked."""

from __future__ import annotations

from pathlib import Path

from compress.errors import OutputError, RecipeError
from recipes.toolbox.folder import MARK, PLAN
from targets.planning.plan import Plan, read_plan


def plan_path(folder: Path, *, overwrite: bool) -> Path:
    """`folder`/plan.json, made ready to be written; nothing else there is touched.

    Raises OutputError where a plan is there already and --overwrite is not given, and for a folder
    that is neither empty nor of an edgepress run.
    """
    path = folder / PLAN
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"output {folder} is not a folder; give a new one with --out")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(f"{path} is no plain file; give another folder with --out")
        if path.exists() and not overwrite:
            raise OutputError(
                f"output folder {folder} holds a plan; add --overwrite to replace it, or give "
                f"another folder with --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"output folder {folder} cannot be written ({reason}); give another with --out"
        ) from error
    if not names <= {PLAN} and MARK not in names:
        raise OutputError(
            f"output folder {folder} is not empty and not of an edgepress run; give an empty or "
            f"new folder with --out"
        )
    return path


def plan_of(recipe: str, net: str | None, folder: Path, given: Path | None) -> Plan | None:
    """The plan given with --plan, or the one in the run's folder; None where there is neither.

    Raises ReportError for a file that is no plan, RecipeError for that of another recipe or net.
    """
    path = given or folder / PLAN
    if given is None and not path.is_file():
        return None
    plan = read_plan(path)
    if (plan.recipe, plan.net) != (recipe, net):
        way = "give its own with --plan" if given else "give another folder with --out"
        planned, asked = _words(plan.recipe, plan.net), _words(recipe, net)
        raise RecipeError(f"{path} is a plan of {planned}, not of {asked}; {way}")
    return plan


def _words(recipe: str, net: str | None) -> str:
    return repr(recipe) if net is None else f"{recipe!r} with --net {net}"
