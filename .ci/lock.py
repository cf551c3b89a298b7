"""Write requirements.lock: exact versions of everything that pyproject.toml asks for.

usage: python3.11 .ci/lock.py requirements.lock

pip resolves all dependencies and all extras together, in an empty environment, installing
nothing. The file names versions only: no place to fetch from and no build of one machine
(`torch==2.13.0`, not its `+cpu` build), so it serves any machine with the same Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Exact versions that resolve together on Python {python}: all dependencies and all extras.
# Made by `make lock` from pyproject.toml; do not edit by hand.
"""


def wanted(project: Path) -> list[str]:
    """Every requirement of the base install, of each extra and of the build."""
    table = tomllib.loads(project.read_text())
    extras = table["project"]["optional-dependencies"].values()
    build = table["build-system"]["requires"]
    return [*table["project"]["dependencies"], *(r for extra in extras for r in extra), *build]


def resolve(requirements: list[str], folder: Path) -> dict[str, str]:
    """Name (in lower case, hyphens) -> version that pip chooses, seen from an empty environment."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    report = folder / "report.json"
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    subprocess.run([*command, "--report", report, *requirements], check=True)
    chosen = json.loads(report.read_text())["install"]
    return {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"]
        for item in chosen
    }


def portable(version: str) -> str:
    """The version without its local part, which names a build of one machine."""
    return version.partition("+")[0]


def main(target: Path) -> None:
    """Resolve and write `target` whole or not at all."""
    with tempfile.TemporaryDirectory() as scratch:
        versions = resolve(wanted(ROOT / "pyproject.toml"), Path(scratch))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"{name}=={portable(version)}\n" for name, version in sorted(versions.items())]
    aside = target.with_name(f".{target.name}.part")
    aside.write_text(HEADER.format(python=python) + "".join(lines))
    aside.replace(target)
    print(f"{target}: {len(lines)} packages")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
