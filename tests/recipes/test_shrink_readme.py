"""The README's steps for a model that one already has, as a newcomer types them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from recipes.cli import main
from recipes.shrinking import climb, reporting
from targets.advice import advise
from targets.measurement import Plan
from targets.report import read_report
from tests.forked import Forked
from tests.nets import digits_residual_spec
from tests.recipes.commands import ROOT, finish
from tests.recipes.small_model import write_model, write_pictures

HEADING = "Shrink a model you already have"


def steps() -> list[list[str]]:
    """The commands of the first fenced block after the heading; comments are left out."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {HEADING}\n.*?^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"README.md has no section {HEADING!r} with commands"
    lines = found[1].replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    return [command for command in commands if command[:1] == ["edgepress"]]


def quick_main(arguments: list[str]) -> int:
    """edgepress, but shared weights of 6 bits alone, and the files are hardly timed."""
    climb.LADDER = tuple(rung for rung in climb.LADDER if rung.bits in (None, 6))
    reporting.PLAN = Plan(runs=5, rounds=1, warmup_s=0.01, max_s=0.05)
    return main(arguments)


def test_a_newcomer_follows_the_readme(tmp_path: Path) -> None:
    commands = steps()
    shrinking = [command for command in commands if command[1] == "shrink"]
    assert shrinking
    model, pictures = shrinking[0][2], shrinking[0][shrinking[0].index("--images") + 1]
    write_model(tmp_path / model, digits_residual_spec)
    write_pictures(tmp_path / pictures, "validation", 60)
    for command in commands:
        status, _, err = finish(Forked(quick_main, *command[1:], cwd=tmp_path))
        assert status == 0, (command, err)
    folder = tmp_path / "build" / f"shrink-{Path(model).stem}"
    ship = advise(read_report(folder / "report.json")).ship
    assert ship is not None
    assert (folder / ship.path).stat().st_size == ship.file_bytes
    assert (folder / "report.html").is_file()
