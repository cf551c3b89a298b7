"""What setup makes, and how a command is run in it. Nothing here is made or fetched.

host/    qemu-aarch64 and the host's libraries that it needs
guest/   Python for aarch64 and its libraries
site/    numpy, onnxruntime and LiteRT for aarch64
roots/   for each emulated CPU what the program sees of /: guest/, with its own /proc/cpuinfo
counts-....so   the plugin that counts instructions
userland.json   what is in it; written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from compress.errors import DeviceError
from targets.devices.qemu.profiles import profile_named
from targets.onboard import counting
from targets.runner_file import cache_folder

WHEELS = ("ai-edge-litert==2.3.0", "numpy==2.4.6", "onnxruntime==1.31.1")
"""The versions of requirements.lock, so that here and there one runtime is compared."""

SETUP = "run: edgepress devices setup qemu"
MANIFEST = "userland.json"
_LAYOUT = 1
_LIBRARIES = "x86_64-linux-gnu"


def default_folder() -> Path:
    """Where the userland of this version is or will be, in the user's cache folder."""
    held = "\n".join([str(_LAYOUT), *WHEELS]).encode()
    return cache_folder() / f"qemu-{hashlib.sha256(held).hexdigest()[:8]}"


def plugin_source() -> bytes:
    """The plugin's C."""
    return files("targets.devices.qemu").joinpath("counts.c").read_bytes()


def plugin_name() -> str:
    """Named by its source, so that a changed one is compiled anew and nothing else is made anew."""
    return f"counts-{hashlib.sha256(plugin_source()).hexdigest()[:12]}.so"


@dataclass(frozen=True)
class Userland:
    """A userland in `folder`; `python` names its interpreter, as python3.11."""

    folder: Path
    python: str

    @property
    def interpreter(self) -> Path:
        return self.folder / "guest" / "usr" / "bin" / self.python

    def root(self, cpu: str) -> Path:
        return self.folder / "roots" / cpu

    def command(
        self, cpu: str, argv: Sequence[str], counts: Path | None = None, *, keep: bool = False
    ) -> list[str]:
        """The command of this machine that runs `argv`, a program of aarch64, on the emulated CPU.

        counts: the file for the counts of marked pieces; without it nothing is counted. keep: let
        Python keep the byte code of what it imports.
        """
        # Its own loader and libraries, not this machine's, which change with its updates.
        host = self.folder / "host"
        libraries = [host / "lib" / _LIBRARIES, host / "usr" / "lib" / _LIBRARIES]
        loader = libraries[0] / "ld-linux-x86-64.so.2"
        emulator = [loader, "--library-path", ":".join(map(str, libraries))]
        emulator += [host / "usr" / "bin" / "qemu-aarch64", "-L", self.root(cpu)]
        emulator += ["-cpu", profile_named(cpu).model, "-seed", "0"]
        if counts is not None:
            # A comma ends an option's value there, and two are one.
            plugin, out = (str(p).replace(",", ",,") for p in (self.folder / plugin_name(), counts))
            emulator += ["-plugin", f"{plugin},out={out}"]
        return ["env", "-i", *self._variables(counts, keep), *map(str, emulator), *argv]

    def _variables(self, counts: Path | None, keep: bool) -> list[str]:
        """The whole environment of the program: the user's own would change what is counted."""
        held = {
            "HOME": "/nonexistent",
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "" if keep else "1",
            "PYTHONHASHSEED": "0",
            "PYTHONHOME": str(self.folder / "guest" / "usr"),
            "PYTHONPATH": str(self.folder / "site"),
        }
        if counts is not None:
            held[counting.VARIABLE] = str(counts)
        return [f"{name}={value}" for name, value in held.items()]


def installed(folder: Path | None = None) -> Userland:
    """The userland in `folder`, by default this user's. DeviceError where it is not whole."""
    folder = folder or default_folder()
    found = read_manifest(folder)
    if found is None:
        raise DeviceError(f"there is no emulated ARM userland in {folder}; {SETUP}")
    wrong = faults(folder, found)
    if wrong:
        raise DeviceError(f"the emulated ARM userland in {folder} has {wrong[0]}; {SETUP}")
    return Userland(folder, str(found["python"]))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What stands in it; None where it is missing or not ours."""
    try:
        held = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    kinds = {"layout": int, "python": str, "qemu": str, "files": dict}
    whole = isinstance(held, dict) and all(isinstance(held.get(k), t) for k, t in kinds.items())
    return held if whole and held["layout"] == _LAYOUT else None


def write_manifest(folder: Path, python: str, more: dict[str, Any]) -> None:
    """Say what is in `folder`, with the size of every file in it."""
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    held = {"layout": _LAYOUT, "python": python, "wheels": list(WHEELS), **more, "files": sizes}
    (folder / MANIFEST).write_text(json.dumps(held, indent=1) + "\n")


def faults(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is missing or of another size than it was, and a plugin that is not compiled."""
    wrong: list[str] = []
    for name, size in manifest["files"].items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            wrong.append(f"no {name}")
            continue
        if found != size:
            wrong.append(f"{name} of {found} bytes instead of {size}")
    if not (folder / plugin_name()).is_file():
        wrong.append("no plugin of this version")
    return wrong
