"""Boards by adb: the real client and server against the stand-in of tests/adbd.py, not a phone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compress.errors import DeviceError
from targets.bench import benchmark
from targets.devices import adb
from targets.devices.adb import AdbDevice
from targets.measurement import Plan, Target
from tests.adbd import Adbd
from tests.boards import adb_client, free_port, shell_of
from tests.processes import gone, noted
from tests.reports import write_onnx

QUICK = Plan(runs=5, rounds=1, warmup_s=0.05, max_s=0.2)
SLEEPERS = 'trap \'\' HUP INT TERM; echo $$ > "$0"; sleep 60 & echo $! > "$0.child"; sleep 61'


@pytest.fixture(scope="module")
def applets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The PATH of the stand-in: mksh and toybox, as on Android. The adb server runs meanwhile."""
    folder = tmp_path_factory.mktemp("adb")
    client = adb_client(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{client}:{os.environ['PATH']}")
        try:
            yield str(shell_of(folder / "applets", "toybox", "mksh"))
        finally:
            subprocess.run(["adb", "kill-server"], capture_output=True, check=False)


@pytest.fixture(params=["new", "old"])
def adbd(request: pytest.FixtureRequest, applets: str) -> Iterator[Adbd]:
    """Before and since the shell protocol 2, which keeps streams apart and brings the status."""
    with Adbd(free_port(), applets, old=request.param == "old").running() as running:
        yield running


@pytest.fixture
def ready(applets: str) -> Iterator[Adbd]:
    with Adbd(free_port(), applets).running() as running:
        yield running


def on(adbd: Adbd, folder: Path, python: str = sys.executable) -> AdbDevice:
    return AdbDevice(f"127.0.0.1:{adbd.port}", python=python, folder=str(folder / "there"))


def refused(device: AdbDevice) -> str:
    begun = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        device.run(["true"], 30)
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_full_bench(ready: Adbd, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "net.onnx")
    (found,) = benchmark([path], [Target(on(ready, tmp_path))], QUICK)
    assert found.device == f"adb:127.0.0.1:{ready.port}"
    assert found.runs == QUICK.runs * QUICK.rounds
    assert found.median_ms > 0
    assert on(ready, tmp_path).describe()["cores"] == os.cpu_count()


def test_arguments_streams_and_statuses(adbd: Adbd, tmp_path: Path) -> None:
    device = on(adbd, tmp_path)
    odd = "a 'b\" $c `d` \\e\n\nf;& *"
    done = device.run(["printf", "%s", odd], 10)
    assert (done.status, done.stdout, done.stderr) == (0, odd, "")
    done = device.run(["sh", "-c", "echo out; echo err >&2; cat; exit 3"], 10)
    joined = ("out\nerr\n", "") if adbd.old else ("out\n", "err\n")
    assert (done.status, done.stdout, done.stderr) == (3, *joined)
    assert device.run(["sh", "-c", "kill -SEGV $$"], 10).status == -11


def test_statuses_are_always_those_of_the_command(ready: Adbd, tmp_path: Path) -> None:
    """Under toybox's own `timeout` one in fifteen was 127."""
    device = on(ready, tmp_path)
    assert {device.run(["sh", "-c", "exit 3"], 10).status for _ in range(8)} == {3}


def test_files_are_pushed_once_and_cleaned(adbd: Adbd, tmp_path: Path) -> None:
    device = on(adbd, tmp_path)
    path = tmp_path / "-o 'odd\nname\".onnx"
    path.write_bytes(os.urandom(300_000))
    there = Path(device.push(path))
    assert there.read_bytes() == path.read_bytes()
    before = adbd.received_bytes
    assert device.push(path) == str(there)
    assert adbd.received_bytes - before < 5000
    there.write_bytes(b"spoilt")
    assert device.push(path) == str(there)
    assert there.read_bytes() == path.read_bytes()
    assert device.clean() == 1
    assert not there.parent.exists()


def test_a_full_disk_keeps_nothing(ready: Adbd, tmp_path: Path) -> None:
    ready.room_bytes = 200_000
    (tmp_path / "big.onnx").write_bytes(os.urandom(300_000))
    with pytest.raises(DeviceError) as caught:
        on(ready, tmp_path).push(tmp_path / "big.onnx")
    assert re.search(
        r"did not take big\.onnx \(300000 bytes\) whole: .*No space left on device; \d+ bytes are "
        r"free in /.*; nothing of it was left",
        str(caught.value),
    )
    assert not list((tmp_path / "there").iterdir())


def test_a_push_that_is_cut_off_keeps_nothing(ready: Adbd, tmp_path: Path) -> None:
    ready.cut_after_bytes = 2_000_000
    (tmp_path / "big.onnx").write_bytes(os.urandom(5_000_000))
    with pytest.raises(DeviceError, match=r"did not take big\.onnx .*; nothing of it was left"):
        on(ready, tmp_path).push(tmp_path / "big.onnx")
    assert not list((tmp_path / "there").iterdir())
    on(ready, tmp_path).push(tmp_path / "big.onnx")


def test_a_timeout_leaves_no_process(adbd: Adbd, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DeviceError, match=r"^sh on adb:.* ran longer than 1 s and was stopped"):
        on(adbd, tmp_path).run(["sh", "-c", SLEEPERS, str(tmp_path / "note")], 1)
    assert time.monotonic() - begun < 8
    assert gone(noted(tmp_path / "note"))
    assert gone(noted(tmp_path / "note.child"))


def test_a_device_that_goes_away_is_told_and_keeps_no_process(adbd: Adbd, tmp_path: Path) -> None:
    device = on(adbd, tmp_path)
    note = tmp_path / "note"
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(device.run, ["sh", "-c", SLEEPERS, str(note)], 60)
        processes = [noted(note), noted(tmp_path / "note.child")]
        begun = time.monotonic()
        adbd.drop()
        caught = result.exception(20)
    assert time.monotonic() - begun < 10
    assert isinstance(caught, DeviceError)
    assert re.match(r"adb:\S+ (went away|broke off without an end)[^\n]+$", str(caught))
    assert all(gone(process) for process in processes)
    assert device.run(["echo", "again"], 10).stdout == "again\n"


def test_a_device_that_restarts_is_connected_again(ready: Adbd, tmp_path: Path) -> None:
    """adb itself says "already connected" of the old connection, and ends with 0 on failure."""
    device = on(ready, tmp_path)
    assert device.run(["echo", "a"], 10).stdout == "a\n"
    ready.stop()
    line = refused(device)
    assert "is not ready: " in line
    assert "Connection refused" in line
    ready.start()
    assert device.run(["echo", "b"], 10).stdout == "b\n"


def test_an_unauthorized_device_is_told(applets: str, tmp_path: Path) -> None:
    with Adbd(free_port(), applets, "unauthorized").running() as running:
        line = refused(on(running, tmp_path))
    assert "it is unauthorized; unlock its screen and allow this computer" in line


def test_a_silent_device_is_told(
    applets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and says nothing."""
    monkeypatch.setattr(adb, "CLIENT_S", 2.0)
    with Adbd(free_port(), applets, "offline").running() as running:
        line = refused(on(running, tmp_path))
    assert "gave no answer to adb connect for 2 s; see whether it is on" in line


def test_an_unknown_device_is_told(applets: str) -> None:
    del applets
    line = refused(AdbDevice("R58M1234"))
    assert line == ("adb:R58M1234 is not ready: 'R58M1234' not found; see what `adb devices` lists")


def test_a_missing_python_is_told(ready: Adbd, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="has no command 'python3'; Android brings no Python: gi"):
        on(ready, tmp_path, "python3").describe()
    with pytest.raises(DeviceError, match="has no command 'nosuch'; install it there"):
        on(ready, tmp_path).run(["nosuch"], 10)


def test_two_devices_at_once(applets: str, tmp_path: Path) -> None:
    with (
        Adbd(free_port(), applets).running() as first,
        Adbd(free_port(), applets).running() as second,
        ThreadPoolExecutor(2) as pool,
    ):
        here = threading.Barrier(2)

        def say(adbd: Adbd) -> str:
            here.wait()
            return on(adbd, tmp_path).run(["echo", str(adbd.port)], 20).stdout

        said = list(pool.map(say, [first, second]))
    assert said == [f"{first.port}\n", f"{second.port}\n"]


def test_without_a_client_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="needs the client `adb`, which cannot be started here"):
        AdbDevice("x").run(["true"], 5)


def test_an_emulator_measures_nothing() -> None:
    assert AdbDevice("emulator-5554").provenance == "emulated"
    assert AdbDevice("192.168.0.7:5555").provenance == "measured"


@pytest.mark.parametrize("serial", ["", "-P", "a b", "a;b"])
def test_serials_that_are_none(serial: str) -> None:
    with pytest.raises(DeviceError, match="is not understood; give a serial number"):
        AdbDevice(serial)
