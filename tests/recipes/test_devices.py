"""edgepress devices: what there is, what is missing and how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import cli
from recipes.commands import devices
from tests.recipes.answering import refused, told

ADB = """#!/bin/sh
echo "* daemon started successfully"
echo "List of devices attached"
printf "0123\\tdevice\\n10.0.0.7:5555\\toffline\\n"
"""


def first_words(text: str) -> dict[str, str]:
    pairs = (line.split(None, 1) for line in text.splitlines() if " " in line)
    return {name: rest.strip() for name, rest in pairs}


def test_the_list_names_what_is_attached_and_every_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = tmp_path / "adb"
    client.write_text(ADB)
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown = first_words(told(capsys, "devices"))
    assert shown["local"] == "this machine"
    assert shown["adb:0123"] == "ready"
    assert shown["adb:10.0.0.7:5555"] == "offline"
    assert "adb:List" not in shown
    assert shown["qemu:cortex-a53"].endswith("not ready: run edgepress devices setup qemu")
    assert shown["+cpu"] == ".onnx, .tflite"
    assert shown["+plain"] == ".tflite"


def test_without_adb_the_list_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = first_words(told(capsys, "devices"))
    assert shown["adb:SERIAL"].endswith("install Android's platform-tools")


def test_a_device_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    shown = first_words(told(capsys, "devices", "show", "local"))
    assert int(shown["cores"]) >= 1
    assert shown["python"][0] == "3"


def test_the_emulator_is_set_up_with_its_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "setup_qemu", lambda progress: progress("fetched, 12 MB, 3 s"))
    assert cli.main(["devices", "setup", "qemu"]) == 0
    assert capsys.readouterr().out.strip() == "fetched, 12 MB, 3 s"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("setup", "ssh:board"), "only qemu is set up; boards need python3 with numpy"),
        (("clean", "local"), "only boards hold files of ours"),
        (("clean", "qemu:cortex-a53"), "only boards hold files of ours"),
        (("show", "nowhere"), "targets are written local, ssh:"),
        (("show",), "DEVICE"),
        (("sell", "local"), "'sell'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    asked: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, "devices", *asked)
