"""What the userland is made of, fetched by the system's own tools, which check what they fetch.

apt-get resolves, downloads and verifies Debian packages with a state of its own in a private
folder: the system's sources and keys are read, its own state is neither read nor changed, nothing
is installed. pip does so with wheels.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.errors import DeviceError
from targets.device import Completed
from targets.devices.process import run_to_end

_TIMEOUT_S = 1800
# Newest first; a wheel names the oldest glibc that it runs on.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_aarch64" for minor in (34, 31, 28, 27, 26, 24, 17)),
    "manylinux2014_aarch64",
)
# Under root apt would download as another user, who cannot write here; else the line is idle.
_EARLY = """\
APT::Architecture "{arch}";
Dir::State "{state}";
Dir::State::Lists "{state}/lists";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
APT::Sandbox::User "root";
"""
# After the system's own configuration: its hooks act on the system's state, which this is not.
_LATE = """\
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
Acquire::Languages "none";
Acquire::Retries "2";
"""


def tool(name: str, package: str) -> str:
    """The path of a program of this machine. DeviceError where it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise DeviceError(
            f"setting up qemu needs {name}, which was not found; install it (on Debian: {package})"
        )
    return found


def debian_packages(wanted: Sequence[str], architecture: str, folder: Path) -> list[Path]:
    """Download `wanted` with all that they depend on, into `folder`; the .deb files.

    For the Debian release whose sources this system has. DeviceError where they offer nothing.
    """
    apt = tool("apt-get", "apt; other systems are not supported")
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    # No package is installed there, so that all dependencies are fetched.
    (folder / "status").touch()
    early, late = folder / "early.conf", folder / "late.conf"
    early.write_text(_EARLY.format(arch=architecture, state=folder))
    late.write_text(_LATE.format(arch=architecture))
    environment = {"APT_CONFIG": str(early), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    update = run([apt, "-c", str(late), "--quiet=2", "update"], environment)
    options = ["--quiet=2", "--yes", "--no-install-recommends", "--download-only"]
    done = run([apt, "-c", str(late), *options, "install", *wanted], environment)
    fetched = sorted((folder / "cache" / "archives").glob("*.deb"))
    if done.status != 0 or not fetched:
        # Without network it is the update that says so; what follows knows of no package.
        failed = [line for line in update.stderr.splitlines() if "Failed to fetch" in line]
        reason = _complaint("\n".join(failed)) or _complaint(done.stderr) or _last(done.stderr)
        raise DeviceError(
            f"apt-get cannot fetch {', '.join(wanted)} for {architecture}: {reason}; it needs the "
            f"network and sources that offer {architecture}, as Debian's do"
        )
    return fetched


def unpack(packages: Sequence[Path], folder: Path) -> dict[str, str]:
    """Unpack .deb files into `folder`, running none of their scripts; {name: version}."""
    extract = tool("dpkg-deb", "dpkg")
    folder.mkdir(exist_ok=True)
    versions: dict[str, str] = {}
    for package in packages:
        done = run([extract, "--extract", str(package), str(folder)])
        if done.status != 0:
            raise DeviceError(f"{package.name} cannot be unpacked: {_last(done.stderr)}")
        name, version, _ = package.name.split("_")
        versions[name] = version.replace("%3a", ":")
    return versions


def wheels(wanted: Sequence[str], python: str, folder: Path) -> None:
    """Install `wanted` (NAME==VERSION) for aarch64 and `python`, as 3.11, into `folder`.

    Without what they name as dependencies, which only their parts for training and converting need.
    """
    if importlib.util.find_spec("pip") is None:
        raise DeviceError(
            f"setting up qemu needs pip, which {sys.executable} lacks; run: "
            f"{sys.executable} -m ensurepip"
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--root-user-action=ignore", "--implementation", "cp", "--python-version", python]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    # Settings that contradict --target.
    refused = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_PREFIX": ""}
    done = run([*command, "--target", str(folder), *wanted], refused)
    if done.status != 0:
        reason = _complaint(done.stderr) or _last(done.stderr)
        raise DeviceError(
            f"pip cannot fetch {', '.join(wanted)} for aarch64 and Python {python}: {reason}; it "
            f"needs the network, and an index that has them"
        )


def compiled(source: Path, library: Path) -> None:
    """Compile a C file into a shared library. DeviceError where there is no compiler."""
    compiler = next((found for c in ("cc", "gcc", "clang") if (found := shutil.which(c))), None)
    compiler = compiler or tool("cc", "gcc and libc6-dev")
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    done = run([compiler, *flags, "-o", str(library), str(source)])
    if done.status != 0:
        reason = _complaint(done.stderr) or _last(done.stderr)
        raise DeviceError(f"{compiler} cannot compile {source.name}: {reason}")


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Completed:
    """Run a tool with these variables added. DeviceError after half an hour."""
    added = [f"{name}={value}" for name, value in (environment or {}).items()]
    try:
        return run_to_end([*(["env", *added] if added else []), *argv], _TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"{Path(argv[0]).name} took longer than {_TIMEOUT_S} s and was stopped; try again "
            f"with a better connection"
        ) from None


def _complaint(text: str) -> str:
    """The first line that reports a failure, as apt (E:, W:), pip and compilers write it."""
    lines = (line.strip() for line in text.splitlines())
    marked = re.compile(r"^(E: |W: |ERROR: )|\berror: ")
    return next((line[:300] for line in lines if marked.search(line)), "")


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]
