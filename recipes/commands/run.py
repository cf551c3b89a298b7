"""edgepress run: find a recipe, give it a job, let it work."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from compress.errors import RecipeError
from recipes.toolbox.allocator import keep_freed_memory

if TYPE_CHECKING:
    from recipes.toolbox.job import Job

Recipe = Callable[["Job"], None]
_HOME = Path(__file__).parent.parent


def execute(arguments: argparse.Namespace) -> None:
    """Run the recipe that `arguments` names; prints where the report is."""
    # Before torch is imported. Its threads would wait for each other spinning, and where another
    # process wants the cores too a training step of 13 ms takes 500 ms so, 90 ms asleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    name, main = find_recipe(arguments.recipe)
    from recipes.planning.place import plan_of
    from recipes.toolbox.distributed import processes
    from recipes.toolbox.elsewhere import Elsewhere, named_targets
    from recipes.toolbox.team_job import one_voice, open_job

    how = (arguments.threads, (), arguments.python, arguments.allow_software_gpu)
    elsewhere = Elsewhere(tuple(named_targets(arguments.target or (), *how)))
    folder = arguments.out or Path("build") / name
    plan = plan_of(name, arguments.net, folder, arguments.plan)
    if arguments.train_only and processes() > 1:
        raise RecipeError(
            "--train-only is for one process: what several made only as many could resume; leave "
            "it away, or start without a launcher"
        )
    job = open_job(
        name,
        folder,
        seed=arguments.seed,
        smoke=arguments.smoke,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    job.plan, job.elsewhere, job.train_only = plan, elsewhere, arguments.train_only
    job.give(
        data=arguments.data,
        test=arguments.test,
        weights=arguments.weights,
        net=arguments.net,
        train_on=arguments.train_on,
    )
    with one_voice():
        main(job)
    if not job.finished:
        raise RecipeError(
            f"recipe {name} ended without a report; call job.finish(job.about(...)) last in main"
        )
    for option in job.unasked():
        # Not an error: what the recipe made without it is whole.
        print(f"edgepress: recipe {name} does not use {option}; ignored", file=sys.stderr)


def recipe_names() -> tuple[str, ...]:
    """The modules of this package that are recipes: those with a `main(job)`."""
    return tuple(sorted(p.stem for p in _HOME.glob("*.py") if _is_recipe(p)))


def find_recipe(asked: str) -> tuple[str, Recipe]:
    """A recipe's name and its main, by name or by path of a .py file."""
    path = Path(asked)
    if path.suffix == ".py":
        if not path.is_file():
            raise RecipeError(f"recipe {asked} does not exist; give a .py file or a recipe's name")
        if not _is_recipe(path):
            raise RecipeError(f"{asked} is no recipe; a .py file with a function main(job) is")
        return path.stem, _main_of(_import_file(path))
    names = recipe_names()
    if asked not in names:
        raise RecipeError(
            f"no recipe {asked!r}; there are: {', '.join(names)}; or give a path to a .py file"
        )
    return asked, _main_of(importlib.import_module(f"recipes.{asked}"))


def _is_recipe(path: Path) -> bool:
    """True where the file has a top-level main with the one argument `job`; nothing is run."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise RecipeError(f"recipe {path}{where} is not Python: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: null bytes
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    mains = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    return any([a.arg for a in m.args.args] == ["job"] for m in mains)


def _import_file(path: Path) -> ModuleType:
    """The file as a module under its own name, so that `builder="my_recipe:net"` finds it.

    As with `python my_recipe.py`, modules that lie beside it can be imported.
    """
    name = path.stem
    if _is_taken(name, path):
        raise RecipeError(f"recipe {path} has the name of the module {name!r}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError):
            raise RecipeError(
                f"recipe {path} cannot be imported: {error}; install what is missing or mend the "
                f"import"
            ) from error
        raise
    return module


def _is_taken(name: str, path: Path) -> bool:
    """True where `import name` gives another module than the file at `path`."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return name in sys.modules
    origin = None if found is None else found.origin
    return origin is not None and Path(origin).resolve() != path.resolve()


def _main_of(module: ModuleType) -> Recipe:
    main: Recipe = module.main
    return main
