"""recipes/README.md is complete: every recipe, option and loader stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes.cli import main
from recipes.commands.run import recipe_names

HOME = Path(__file__).resolve().parent.parent.parent / "recipes"


def text() -> str:
    return (HOME / "README.md").read_text(encoding="utf-8")


def test_every_recipe_is_named() -> None:
    names = recipe_names()
    assert len(names) >= 8
    assert [name for name in names if f"`{name}`" not in text()] == []


def test_no_recipe_is_named_that_is_not_there() -> None:
    suffixes = r"deep_compression|int8|cifar10"
    named = set(re.findall(rf"`([a-z0-9_]+_(?:{suffixes}))`", text()))
    assert named - set(recipe_names()) == set()


def test_every_option_of_run_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    assert {"--data", "--resume"} <= options
    assert sorted(option for option in options if f"`{option}" not in text()) == []


def test_recipes_are_as_short_as_promised() -> None:
    long = {
        name: lines
        for name in recipe_names()
        if (lines := len((HOME / f"{name}.py").read_text().splitlines())) > 60
    }
    assert long == {}


def test_every_loader_is_named() -> None:
    readme = (HOME / "loaders" / "README.md").read_text(encoding="utf-8")
    files = [p for p in (HOME / "loaders").rglob("*") if p.suffix in (".kt", ".swift", ".hpp")]
    assert len(files) >= 7
    missing = [str(p.relative_to(HOME / "loaders")) for p in files]
    assert [name for name in missing if f"`{name}`" not in readme] == []
