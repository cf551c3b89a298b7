"""edgepress run: find a recipe, give it a job, let it work."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from compress.errors import RecipeError

if TYPE_CHECKING:
    from recipes.toolbox.job import Job

Recipe = Callable[["Job"], None]
_HOME = Path(__file__).parent.parent


def execute(arguments: argparse.Namespace) -> None:
    """Run the recipe that `arguments` names; prints where the report is."""
    name, main = find_recipe(arguments.recipe)
    from recipes.toolbox.job import Job

    job = Job.open(
        name,
        arguments.out or Path("build") / name,
        seed=arguments.seed,
        smoke=arguments.smoke,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    job.data, job.weights = arguments.data, arguments.weights
    main(job)


def recipe_names() -> tuple[str, ...]:
    """The modules of this package that are recipes: those with a `main(job)`."""
    return tuple(sorted(p.stem for p in _HOME.glob("*.py") if _is_recipe(p)))


def find_recipe(asked: str) -> tuple[str, Recipe]:
    """A recipe's name and its main, by name or by path of a .py file."""
    path = Path(asked)
    if path.suffix == ".py":
        if not path.is_file() or not _is_recipe(path):
            raise RecipeError(f"{asked} is no recipe; a .py file with a function main(job) is")
        return path.stem, _main_of(_import_file(path))
    if asked not in recipe_names():
        known = ", ".join(recipe_names())
        raise RecipeError(f"no recipe {asked!r}; there are: {known}; or give a path to a .py file")
    return asked, _main_of(importlib.import_module(f"recipes.{asked}"))


def _is_recipe(path: Path) -> bool:
    """True where the file has a top-level main with the one argument `job`; nothing is run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return False
    mains = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    return any([a.arg for a in m.args.args] == ["job"] for m in mains)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _main_of(module: ModuleType) -> Recipe:
    main: Recipe = module.main
    return main
