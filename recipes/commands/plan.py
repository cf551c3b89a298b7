"""edgepress plan: a recipe run dry. What will each file be worth, before any training?"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from compress.errors import RecipeError
from recipes.commands.run import find_recipe
from recipes.toolbox.allocator import keep_freed_memory

_TERMINATED = 143


def execute(arguments: argparse.Namespace) -> None:
    """Plan the recipe that `arguments` names: a table, and plan.json in the output folder."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in run
    keep_freed_memory()
    name, main = find_recipe(arguments.recipe)
    from recipes.planning.job import PlanningJob
    from recipes.planning.place import plan_path
    from recipes.planning.table import plan_lines
    from recipes.toolbox.distributed import processes
    from targets.planning.plan import write_plan

    if processes() > 1:
        raise RecipeError("a plan is made by one process; start it without a launcher")
    path = plan_path(arguments.out or Path("build") / name, overwrite=arguments.overwrite)
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="edgepress-plan-") as aside:
        job = PlanningJob(name, Path(aside), arguments.seed)
        job.give(
            data=arguments.data, test=arguments.test, weights=arguments.weights, net=arguments.net
        )
        main(job)
    if job.plan is None:
        raise RecipeError(
            f"recipe {name} ended without a report; call job.finish(job.about(...)) last in main"
        )
    write_plan(job.plan, path)
    print("\n".join(["", *plan_lines(job.plan)]))
    print(f"\nplan: {path}")
    for option in job.unasked():
        print(f"edgepress: recipe {name} does not use {option}; ignored", file=sys.stderr)


@contextmanager
def _ended_in_order() -> Generator[None]:
    """SIGTERM ends the plan as an error would: its files, a net's size each, go with it."""

    def end(number: int, frame: object) -> None:
        del number, frame
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
