"""Makes the emulated ARM userland in the user's cache folder: whole, or not at all."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from compress.atomic import make_folder
from compress.errors import DeviceError
from targets.devices.qemu import fetching
from targets.devices.qemu.cpuinfo import PROBE, PROCESSORS, cpuinfo
from targets.devices.qemu.profiles import PROFILES
from targets.devices.qemu.userland import (
    MANIFEST,
    WHEELS,
    Userland,
    default_folder,
    faults,
    plugin_name,
    plugin_source,
    read_manifest,
    write_manifest,
)

Progress = Callable[[str], None]
"""Called with a line for each part that is there, with its size and time."""

_FREE_BYTES = 1 << 30  # 260 MB stay; downloads and what is unpacked of them lie side by side
_HOST = ("qemu-user",)
_GUEST = ("python3", "libstdc++6", "libgomp1")
_NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "var")
_PART = ".part"


def setup_qemu(progress: Progress | None = None, folder: Path | None = None) -> Path:
    """Make the userland in `folder`, by default this user's cache folder; its path.

    Fetches 100 MB, keeps 260 MB, takes about a minute; nothing is installed outside of it. Where
    it is there and whole, nothing is done; a damaged one is made anew. A kill loses no more than
    the work. Raises DeviceError, telling what this machine lacks.
    """
    folder = (folder or default_folder()).absolute()
    tell = progress or _silent
    _check_machine(folder)
    make_folder(folder.parent)
    with _alone(folder):
        _check_ours(folder)
        held = read_manifest(folder)
        wrong = ["no contents"] if held is None else faults(folder, held)
        if wrong == ["no plugin of this version"]:
            _compile_plugin(folder)
            tell("the counting plugin, compiled anew")
        elif wrong:
            _make_aside(folder, tell)
        tell(f"emulated ARM userland: {folder}")
    return folder


def _silent(line: str) -> None:
    del line


def _check_machine(folder: Path) -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise DeviceError(
            f"emulated ARM runs on x86-64 Linux, and this is {platform.machine()} "
            f"{platform.system()}; use a board: ssh:user@board"
        )
    if re.search(r"[:\"\n;]", str(folder)):
        raise DeviceError(
            f"{str(folder)!r} has a sign that qemu or apt cannot take; move the cache"
        )
    for name, package in (
        ("apt-get", "apt; other systems are not supported"),
        ("dpkg-deb", "dpkg"),
    ):
        fetching.tool(name, package)


def _check_ours(folder: Path) -> None:
    """What is replaced must be a userland: others' files are not for us to remove."""
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise DeviceError(
            f"{folder} holds something else than an emulated ARM userland ({MANIFEST} is not in "
            f"it); move it away or name another folder"
        )


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One setup at a time; what killed ones left aside is removed."""
    import fcntl  # not everywhere, as _check_machine has found by now

    # The kernel lets go of the lock with the process, however that ends.
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DeviceError(
                f"another `edgepress devices setup qemu` is making {folder}; wait for it"
            ) from None
        for part in folder.parent.glob(f".{folder.name}.*{_PART}"):
            shutil.rmtree(part, ignore_errors=True)
        yield


def _make_aside(folder: Path, tell: Progress) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < _FREE_BYTES:
        raise DeviceError(
            f"{folder.parent} has {free >> 20} MiB free, and setting up qemu takes "
            f"{_FREE_BYTES >> 20}; free some or set XDG_CACHE_HOME to another folder"
        )
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_PART, dir=folder.parent))
    try:
        _make(part, tell)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.", suffix=_PART, dir=folder.parent
        ) as old:
            if folder.exists():  # damaged: it goes only now that another is there
                folder.rename(Path(old) / folder.name)
            part.rename(folder)
    except OSError as error:
        raise DeviceError(
            f"{folder} cannot be made: {error.strerror} ({error.filename}); mend that and try again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make(part: Path, tell: Progress) -> None:
    begun = time.monotonic()

    def told(what: str, folder: str) -> None:
        nonlocal begun
        now = time.monotonic()
        tell(f"{what}: {_size(part / folder) / 1e6:.0f} MB, {now - begun:.0f} s")
        begun = now

    # The plugin first: where there is no compiler, that is told before anything is fetched.
    _compile_plugin(part)
    packages = {"host": _unpacked(part, "host", _HOST, "amd64")}
    told("qemu and its libraries", "host")
    packages["guest"] = _unpacked(part, "guest", _GUEST, "arm64")
    told("Python for aarch64", "guest")
    python = _python(part / "guest")
    fetching.wheels(WHEELS, python.removeprefix("python"), part / "site")
    told(", ".join(WHEELS), "site")
    userland = Userland(part, python)
    for cpu in PROFILES:
        _make_root(userland, cpu)
    told(f"emulated CPUs {', '.join(PROFILES)}, each tried", "roots")
    write_manifest(part, python, {"qemu": packages["host"]["qemu-user"], "packages": packages})


def _compile_plugin(folder: Path) -> None:
    # Compiled aside too: a second setup may mend a folder that is in use.
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        source, library = Path(aside) / "counts.c", Path(aside) / "counts.so"
        source.write_bytes(plugin_source())
        fetching.compiled(source, library)
        library.rename(folder / plugin_name())


def _unpacked(part: Path, name: str, wanted: tuple[str, ...], architecture: str) -> dict[str, str]:
    """Fetch packages and unpack them into part/name; their versions."""
    with tempfile.TemporaryDirectory(dir=part) as fetched:
        packages = fetching.debian_packages(wanted, architecture, Path(fetched))
        versions = fetching.unpack(packages, part / name)
    for needless in _NEEDLESS:
        shutil.rmtree(part / name / needless, ignore_errors=True)
    if name == "host":
        for program in (part / name / "usr" / "bin").iterdir():
            if program.name != "qemu-aarch64":
                program.unlink()
    for top in ("lib", "bin"):  # where a release has them under usr alone
        if not (part / name / top).exists():
            (part / name / top).symlink_to(f"usr/{top}")
    return versions


def _python(guest: Path) -> str:
    """The name of the one interpreter, as python3.11."""
    names = [p.name for p in (guest / "usr" / "bin").glob("python3.*")]
    found = [name for name in names if re.fullmatch(r"python3\.\d+", name)]
    if len(found) != 1 or int(found[0].removeprefix("python3.")) < 11:
        raise DeviceError(
            f"this system's release has {', '.join(found) or 'no Python'} for arm64, and "
            f"{WHEELS[-1]} needs 3.11 or newer; Debian 12 has it"
        )
    return found[0]


def _make_root(userland: Userland, cpu: str) -> None:
    """What the program sees of /; and both runtimes imported, which fails where it is not right."""
    root = userland.root(cpu)
    for name in ("lib", "usr", "etc"):
        root.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"../../guest/{name}")
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(cpuinfo(_answer(userland, cpu, PROBE)))
    shown = root / "sys" / "devices" / "system" / "cpu"
    shown.mkdir(parents=True)
    for name in ("online", "possible", "present"):
        (shown / name).write_text(f"0-{PROCESSORS - 1}\n")
    script = "import json, platform, onnxruntime, ai_edge_litert.interpreter\n"
    found = json.loads(_answer(userland, cpu, f"{script}print(json.dumps(platform.machine()))"))
    assert found == "aarch64", found


def _answer(userland: Userland, cpu: str, script: str) -> str:
    """What a script wrote on stdout in the emulated Python, which keeps its imports' byte code."""
    argv = [str(userland.interpreter), "-c", script]
    done = fetching.run(userland.command(cpu, argv, keep=True))
    if done.status != 0:
        words = (done.stderr.strip().splitlines() or ["nothing"])[-1][:300]
        raise DeviceError(
            f"the emulated {cpu} does not run Python and its runtimes (status {done.status}); "
            f"its last words: {words}"
        )
    return done.stdout


def _size(folder: Path) -> int:
    """Bytes of the files in it; links are none."""
    return sum(
        entry.stat(follow_symlinks=False).st_size
        for path, _, names in os.walk(folder)
        for entry in (Path(path) / name for name in names)
    )
