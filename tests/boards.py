"""What `make boards` unpacked, and a real sshd on loopback that stands for a board.

The programs lie in build/boards; EDGEPRESS_BOARDS names another folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("EDGEPRESS_BOARDS") or Path(__file__).resolve().parent.parent / "build/boards"
).absolute()
ROOT = FOLDER / "root"
APPLETS = "cat chmod cut df dirname echo env find head id kill ln ls mkdir mv od printf ps pwd rm"
APPLETS += " rmdir setsid sh sha256sum sleep tail test touch tr true uname wc"

# In a mount namespace of its own: users and folders that no one else sees.
NAMESPACE = """
mount --bind "$1/passwd" /etc/passwd && mount -t tmpfs none /run && mkdir -m 755 /run/sshd &&
mount -t tmpfs -o size=256k none "$1/small" &&
export LD_LIBRARY_PATH="$2" && exec "$3" -D -e -f "$1/sshd_config"
"""


def require() -> None:
    """Skip where the programs are missing."""
    if not (FOLDER / "ready.stamp").is_file():
        pytest.skip(f"the programs of boards are not in {FOLDER}; run: make boards")


def program(name: str) -> Path:
    """An unpacked program; newer systems have all of them below usr."""
    places = ("usr/bin", "bin", "usr/sbin", "usr/lib/android-sdk/platform-tools")
    found = (ROOT / place / name for place in places if (ROOT / place / name).is_file())
    return next(found)


def libraries() -> Path:
    return next(path for path in (ROOT / "usr/lib").glob("*-linux-gnu"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def shell_of(folder: Path, box: str, shell: str) -> Path:
    """A folder for PATH that holds nothing but the applets of `box` and `shell` as sh."""
    folder.mkdir()
    for name in APPLETS.split():
        (folder / name).symlink_to(program(box))
    (folder / "sh").unlink()
    (folder / "sh").symlink_to(program(shell))
    return folder


def adb_client(folder: Path) -> Path:
    """A folder for PATH with the unpacked adb client; its server and keys stay in `folder`."""
    require()
    (folder / "bin").mkdir()
    paths = f"{libraries()}:{libraries()}/android"
    client, port = program("adb"), free_port()
    wrapper = folder / "bin" / "adb"
    wrapper.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH="{paths}" HOME="{folder}"\n'
        f'export ANDROID_ADB_SERVER_PORT={port} TMPDIR="{folder}"\nexec "{client}" "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper.parent


@dataclass
class Board:
    """An sshd of our own. Its users are all root, with other homes, shells and paths."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def options(self, user_folder: Path | None = None) -> tuple[str, ...]:
        """For ssh: our key, our record of host keys, and no configuration of this machine's."""
        return ("-F", str((user_folder or self.folder) / "ssh_config"))

    def start(self) -> None:
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", NAMESPACE, "-"]
        arguments = [self.folder, libraries(), program("sshd")]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen([*argv, *map(str, arguments)], stdout=log, stderr=log)
        self.processes.append(process)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.skip(f"no sshd in a namespace of its own here: {self.log()[-300:].strip()}")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def connections(self) -> list[int]:
        """The process ids of sshd's children: one for each connection that stands."""
        return children(self.processes[-1].pid)

    def stop(self) -> None:
        for process in self.processes:
            for connection in children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(connection, signal.SIGKILL)
            process.kill()
            process.wait()


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def make_board(folder: Path) -> Board:
    """Keys, users and configuration of a board; started by `start`."""
    require()
    for tool in ("ssh", "ssh-keygen", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} was not found; install it")
    if os.geteuid() != 0:
        pytest.skip("sshd is started in a mount namespace of its own, which takes root")
    port = free_port()
    for key in ("host_key", "other_host_key", "key", "other_key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", folder / key]
        subprocess.run(keygen, check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    applets = shell_of(folder / "applets", "busybox", "busybox")
    users = {
        "board": ("home", "/bin/sh"),
        "noisy": ("noisy", "/bin/bash"),
        "busybox": ("busybox", str(applets / "sh")),
        "small": ("small", "/bin/sh"),
        "closed": ("home", "/bin/false"),
    }
    lines = [Path("/etc/passwd").read_text().rstrip()]
    for user, (home, shell) in users.items():
        (folder / home).mkdir(exist_ok=True)
        lines.append(f"{user}:x:0:0::{folder / home}:{shell}")
    lines.append("sshd:x:65533:65534::/run/sshd:/bin/false")
    (folder / "passwd").write_text("\n".join(lines) + "\n")
    (folder / "noisy" / ".bashrc").write_text('echo "Welcome, edgepress 0"\necho mail >&2\n')
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nUseDNS no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"Match User busybox\n  SetEnv PATH={applets}\n"
    )
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "ssh_config").write_text(
        f"Host *\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n"
        f"  KexAlgorithms curve25519-sha256\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    return Board(folder, port)
