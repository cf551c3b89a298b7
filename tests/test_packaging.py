"""pyproject.toml, the lock and the Makefile agree with one another."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_lock_names_exact_portable_versions_only() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins == sorted(pins, key=lambda pin: pin.split("==")[0])
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)] == []


def test_lock_meets_every_requirement() -> None:
    versions = locked()
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(line for extra in EXTRAS.values() for line in extra),
    ]
    unmet = [
        line
        for line in wanted
        if not (r := Requirement(line)).specifier.contains(
            versions.get(canonicalize_name(r.name), Version("0"))
        )
    ]
    assert unmet == []


def test_every_range_is_bounded_below_and_above() -> None:
    """An open range is a promise about releases that nobody has seen."""
    ranged = [*PROJECT["project"]["dependencies"]]
    ranged += [line for name, extra in EXTRAS.items() if name != "dev" for line in extra]
    for line in ranged:
        operators = {specifier.operator for specifier in Requirement(line).specifier}
        assert operators == {">=", "<"}, line


def test_nothing_heavy_is_in_the_base_install() -> None:
    base = {canonicalize_name(Requirement(d).name) for d in PROJECT["project"]["dependencies"]}
    heavy = {"litert-torch", "torch-pruning", "matplotlib", "numba", "torchvision", "jax"}
    assert base & heavy == set()


def test_every_extra_says_who_needs_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for name in EXTRAS:
        assert re.search(rf"^#[^\n]+\n{name} = \[", text, re.MULTILINE), name


def test_readme_has_two_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    section = readme.split("## Two commands", 1)[1].split("\n## ", 1)[0]
    commands = re.findall(r"^make (\w+)$", section, re.MULTILINE)
    assert commands == ["demo", "test"]
    for command in commands:
        assert re.search(rf"^{command}: \$\(READY\)$", makefile, re.MULTILINE)
