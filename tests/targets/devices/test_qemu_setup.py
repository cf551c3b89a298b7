"""Setting up the emulated userland, without a download: stand-ins for apt-get, dpkg-deb, pip, qemu.

They write what the real ones would leave, and the command lines that they were given.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compress.errors import DeviceError
from targets.devices.qemu import fetching, setup
from targets.devices.qemu.cpuinfo import PROCESSORS, cpuinfo
from targets.devices.qemu.device import QemuDevice
from targets.devices.qemu.profiles import PROFILES
from targets.devices.qemu.setup import setup_qemu
from targets.devices.qemu.userland import (
    WHEELS,
    Userland,
    default_folder,
    installed,
    plugin_name,
    read_manifest,
)
from tests.test_packaging import ROOT, locked

# AT_HWCAP, AT_HWCAP2 and MIDR_EL1 of QEMU's cortex-a76.
PROBED = "[1155067, 0, 1095749809]\n"

APT = """#!/bin/sh
echo "$$" > "$LOG.apt"
echo "apt-get $*" >> "$LOG"
if [ -n "$APT_SLEEPS" ]; then exec sleep "$APT_SLEEPS"; fi
cp "$APT_CONFIG" "$LOG.early"; cp "$2" "$LOG.late"
case "$*" in *install*) : ;; *) exit 0 ;; esac
if [ -n "$APT_FAILS" ]; then echo "$APT_FAILS" >&2; exit 100; fi
state=$(sed -n 's/^Dir::State "\\(.*\\)";/\\1/p' "$APT_CONFIG")
case "$*" in
  *qemu-user*) echo host > "$state/cache/archives/qemu-user_1%3a7.2_amd64.deb" ;;
  *) echo guest > "$state/cache/archives/python3_3.11.2_arm64.deb" ;;
esac
"""
DPKG = """#!/bin/sh
echo "dpkg-deb $*" >> "$LOG"
mkdir -p "$3/usr/bin" "$3/usr/share/doc/x" "$3/usr/lib"
case "$(cat "$2")" in
  host) mkdir -p "$3/lib/x86_64-linux-gnu"; echo qemu > "$3/usr/bin/qemu-aarch64"
        echo other > "$3/usr/bin/qemu-arm"
        cp "$BIN/loader" "$3/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" ;;
  guest) : > "$3/usr/bin/${GUEST_PYTHON:-python3.11}"; ln -s python3.11 "$3/usr/bin/python3" ;;
esac
"""
# What runs every command of the userland: it answers as the emulated Python would.
LOADER = """#!/bin/sh
case "$*" in *getauxval*) echo '[1155067, 0, 1095749809]' ;; *) echo '"aarch64"' ;; esac
"""
COMPILER = """#!/bin/sh
echo "cc $*" >> "$LOG"
while [ "$1" != -o ]; do shift; done
echo library > "$2"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with the stand-ins in front; the file with their command lines."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    scripts = {"apt-get": APT, "dpkg-deb": DPKG, "loader": LOADER, "cc": COMPILER}
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("BIN", str(folder))
    monkeypatch.setattr(fetching, "wheels", _wheels)
    monkeypatch.setattr(setup, "_FREE_BYTES", 1)
    return log


def _wheels(wanted: tuple[str, ...], python: str, folder: Path) -> None:
    assert (wanted, python) == (WHEELS, "3.11")
    folder.mkdir()
    (folder / "numpy.py").write_text("0")


def left_aside(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


@pytest.mark.usefixtures("tools")
def test_a_userland_is_made_whole_and_told(tmp_path: Path) -> None:
    told: list[str] = []
    folder = setup_qemu(told.append, tmp_path / "cache" / "qemu")
    assert folder == tmp_path / "cache" / "qemu"
    assert [line.partition(":")[0] for line in told] == [
        "qemu and its libraries",
        "Python for aarch64",
        ", ".join(WHEELS),
        f"emulated CPUs {', '.join(PROFILES)}, each tried",
        "emulated ARM userland",
    ]
    assert all(" MB, " in line and line.endswith(" s") for line in told[:4])
    userland = installed(folder)
    assert userland == Userland(folder, "python3.11")
    assert sorted(p.name for p in (folder / "host" / "usr" / "bin").iterdir()) == ["qemu-aarch64"]
    assert not (folder / "guest" / "usr" / "share" / "doc").exists()
    for cpu in PROFILES:
        root = userland.root(cpu)
        assert (root / "proc" / "cpuinfo").read_text() == cpuinfo(PROBED)
        assert (root / "usr" / "bin").resolve() == folder / "guest" / "usr" / "bin"
    held = read_manifest(folder)
    assert held is not None
    assert held["qemu"] == "1:7.2"
    assert held["wheels"] == list(WHEELS)
    assert left_aside(folder.parent) == []
    assert "cortex-a76" in str(QemuDevice("cortex-a76", folder).describe()["cpu"]).lower()


def test_apt_is_told_to_keep_to_itself(tools: Path, tmp_path: Path) -> None:
    """A state of its own, no hooks of the system, no other user, nothing installed."""
    setup_qemu(None, tmp_path / "qemu")
    lines = tools.read_text().splitlines()
    installs = [line for line in lines if line.startswith("apt-get") and " install " in line]
    assert len(installs) == 2
    assert all("--download-only" in line for line in installs)
    assert not any(line.startswith("dpkg-deb") and "--extract" not in line for line in lines)
    early = (tmp_path / "log.early").read_text()
    assert 'APT::Architecture "arm64";' in early
    states = [line for line in early.splitlines() if line.startswith("Dir::")]
    assert len(states) == 4
    assert all(str(tmp_path / ".qemu.") in line for line in states)
    assert 'APT::Sandbox::User "root";' in early
    assert "#clear APT::Update::Post-Invoke;" in (tmp_path / "log.late").read_text()


def test_a_second_call_does_nothing(tools: Path, tmp_path: Path) -> None:
    folder = setup_qemu(None, tmp_path / "qemu")
    tools.unlink()
    told: list[str] = []
    assert setup_qemu(told.append, folder) == folder
    assert told == [f"emulated ARM userland: {folder}"]
    assert not tools.exists()


@pytest.mark.usefixtures("tools")
def test_a_damaged_userland_is_made_anew(tmp_path: Path) -> None:
    folder = setup_qemu(None, tmp_path / "qemu")
    (folder / "site" / "numpy.py").write_text("damaged")
    with pytest.raises(DeviceError, match=r"numpy.py of 7 bytes instead of 1; run: edgepress dev"):
        installed(folder)
    setup_qemu(None, folder)
    assert (folder / "site" / "numpy.py").read_text() == "0"
    assert installed(folder).folder == folder


def test_a_changed_plugin_alone_is_compiled_anew(tools: Path, tmp_path: Path) -> None:
    folder = setup_qemu(None, tmp_path / "qemu")
    old = folder / plugin_name()
    old.rename(folder / "counts-000000000000.so")
    held = json.loads((folder / "userland.json").read_text())
    held["files"]["counts-000000000000.so"] = held["files"].pop(plugin_name())
    (folder / "userland.json").write_text(json.dumps(held))
    tools.unlink()
    with pytest.raises(DeviceError, match="no plugin of this version"):
        installed(folder)
    setup_qemu(None, folder)
    assert [line.split()[0] for line in tools.read_text().splitlines()] == ["cc"]
    assert installed(folder).folder == folder


@pytest.mark.usefixtures("tools")
def test_a_failure_leaves_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = setup_qemu(None, tmp_path / "qemu")
    (folder / "site" / "numpy.py").write_text("damaged")
    monkeypatch.setenv("APT_FAILS", "E: Unable to locate package qemu-user")
    with pytest.raises(DeviceError, match=r"^apt-get cannot fetch qemu-user for amd64: E: Unable"):
        setup_qemu(None, folder)
    assert (folder / "site" / "numpy.py").read_text() == "damaged"
    assert left_aside(tmp_path) == []


def test_a_killed_setup_leaves_nothing_that_lasts(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, pathlib; from targets.devices.qemu.setup import setup_qemu\n"
    script += "setup_qemu(None, pathlib.Path(sys.argv[1]))"
    folder = tmp_path / "qemu"
    monkeypatch.setenv("APT_SLEEPS", "60")
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], cwd=ROOT) as process:
        try:
            while not (tools.exists() and "apt-get" in tools.read_text()):
                assert process.poll() is None
                time.sleep(0.02)
            assert len(left_aside(tmp_path)) == 1
        finally:
            process.kill()
            process.wait()
            os.kill(int(tools.with_suffix(".apt").read_text()), signal.SIGKILL)
    assert not folder.exists()
    assert len(left_aside(tmp_path)) == 1
    monkeypatch.delenv("APT_SLEEPS")
    other = tmp_path / ".qemu-e8b3efb1.abc.part"  # another version's, perhaps being made
    other.mkdir()
    setup_qemu(None, folder)
    assert left_aside(tmp_path) == [other.name]
    assert installed(folder).folder == folder


def test_two_setups_do_not_meet(tools: Path, tmp_path: Path) -> None:
    with (tmp_path / ".qemu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match=r"^another `edgepress devices setup qemu` is making"):
            setup_qemu(None, tmp_path / "qemu")
    assert not tools.exists()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("apt-get", "needs apt-get, which was not found; install it (on Debian: apt; other"),
        ("dpkg-deb", "needs dpkg-deb, which was not found; install it (on Debian: dpkg)"),
        ("cc", "needs cc, which was not found; install it (on Debian: gcc and libc6-dev)"),
    ],
)
def test_a_missing_tool_is_named_before_anything_is_fetched(
    missing: str, said: str, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: str(tmp_path / "bin" / name) for name in ("apt-get", "dpkg-deb", "cc")}
    del found[missing]
    monkeypatch.setattr(fetching.shutil, "which", found.get)
    with pytest.raises(DeviceError) as caught:
        setup_qemu(None, tmp_path / "qemu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not tools.exists()
    assert left_aside(tmp_path) == []


@pytest.mark.usefixtures("tools")
def test_an_old_release_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUEST_PYTHON", "python3.9")
    with pytest.raises(DeviceError, match=r"has python3.9 for arm64, and .* needs 3.11 or newer"):
        setup_qemu(None, tmp_path / "qemu")


@pytest.mark.parametrize(
    ("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64")]
)
def test_other_machines_are_told_to_use_a_board(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup.platform, "system", lambda: system)
    monkeypatch.setattr(setup.platform, "machine", lambda: machine)
    with pytest.raises(DeviceError, match=rf"this is {machine} {system}; use a board"):
        setup_qemu(None, tmp_path / "qemu")


def test_a_full_disk_is_told_before(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_FREE_BYTES", 1 << 60)
    with pytest.raises(DeviceError, match=r"MiB free, and setting up qemu takes 1099511627776"):
        setup_qemu(None, tmp_path / "qemu")
    assert not tools.exists()


def test_pip_is_asked_for_aarch64_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$PIP_USER $*" > "{tmp_path}/asked"\nexit $FAILS\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(fetching.sys, "executable", str(python))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("FAILS", "0")
    fetching.wheels(WHEELS, "3.13", tmp_path / "site")
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("0 -m pip install ")
    for part in ("--no-deps", "--only-binary=:all:", "--python-version 3.13", *WHEELS):
        assert part in asked
    assert "manylinux_2_28_aarch64" in asked
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(DeviceError, match=r"^pip cannot fetch .* for aarch64 and Python 3.13: "):
        fetching.wheels(WHEELS, "3.13", tmp_path / "site")


def test_a_machine_without_pip_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", dict[str, object]().get)
    with pytest.raises(DeviceError, match=rf"{sys.executable} -m ensurepip$"):
        fetching.wheels(WHEELS, "3.11", Path("nowhere"))


def test_the_runtimes_are_those_of_the_lock() -> None:
    versions = locked()
    assert [f"{name}=={versions[name]}" for name in sorted(w.split("==")[0] for w in WHEELS)] == [
        *WHEELS
    ]


def test_the_userland_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder().parent == Path("/somewhere/edgepress")


def test_a_missing_userland_says_what_to_run(tmp_path: Path) -> None:
    device = QemuDevice("cortex-a76", tmp_path)
    for use in (lambda: device.python, device.describe, lambda: device.run(["python"], 5)):
        with pytest.raises(DeviceError, match=r"run: edgepress devices setup qemu$"):
            use()


def test_commas_in_a_path_do_not_end_an_option(tmp_path: Path) -> None:
    command = Userland(tmp_path / "a,b", "python3.11").command("i8mm", ["x"], Path("/c,d"))
    given = command[command.index("-plugin") + 1]
    assert given.startswith(str(tmp_path / "a,,b"))
    assert given.endswith(",out=/c,,d")
    assert command[command.index("-cpu") + 1] == "max,sve=off,sme=off"


def test_the_environment_is_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    command = Userland(tmp_path, "python3.11").command("cortex-a53", ["x"])
    assert command[:2] == ["env", "-i"]
    assert "PYTHONHASHSEED=0" in command
    assert not any("CORETYPE" in part or "EDGEPRESS_COUNTS" in part for part in command)


def test_cpuinfo_has_what_the_cpu_says() -> None:
    lines = cpuinfo(PROBED).splitlines()
    assert lines[2] == (
        "Features\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp"
    )
    assert lines[3:8] == [
        "CPU implementer\t: 0x41",
        "CPU architecture: 8",
        "CPU variant\t: 0x4",
        "CPU part\t: 0xd0b",
        "CPU revision\t: 1",
    ]
    assert lines.count("") == PROCESSORS


@pytest.mark.parametrize("said", ["", "nonsense", "[1, 2]", "[1, 2, true]", '{"a": 1}'])
def test_a_probe_that_says_nothing_is_an_error(said: str) -> None:
    with pytest.raises(DeviceError, match="does not tell its features"):
        cpuinfo(said)


@pytest.mark.usefixtures("tools")
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(DeviceError, match=r"holds something else than an emulated ARM userland"):
        setup_qemu(None, tmp_path)
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("held", ["", "[]", "{}", '{"layout": 1, "python": 3, "qemu": ""}'])
def test_a_damaged_manifest_is_none(held: str, tmp_path: Path) -> None:
    (tmp_path / "userland.json").write_text(held)
    assert read_manifest(tmp_path) is None
