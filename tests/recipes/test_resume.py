"""Killed at any moment and resumed, a run ends with the bytes of one that was not."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import time
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open

from recipes.cli import main
from targets.formats import deep_compression
from targets.report import read_report
from tests.forked import Forked
from tests.nets import digits_residual_spec
from tests.recipes.commands import DIGITS, edgepress, finish

KILLED = -signal.SIGKILL


def products(folder: Path) -> dict[str, str]:
    """SHA-256 of each model file."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".dc", ".onnx")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def assert_whole(folder: Path) -> None:
    """Every file under its final name can be read; what was cut off stands aside."""
    for path in (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path))
        elif path.suffix == ".dc":
            deep_compression.load(path, digits_residual_spec())
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np") as opened:
                assert list(opened.keys())
        elif path.suffix == ".progress":
            assert torch.load(path, weights_only=True)["epoch"] >= 1
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.suffix in (".md", ".html"), path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    status, out, err = edgepress("run", DIGITS, "--smoke", "--out", folder)
    assert (status, err) == (0, ""), err
    for stage in ("FineTune", "FoldBatchNorm", "PruneMagnitude", "ShareWeights"):
        assert stage in out
    return folder


def test_a_run_leaves_files_and_a_report_of_them(whole: Path) -> None:
    assert_whole(whole)
    rows = {row.path: row for row in read_report(whole / "report.json").rows}
    found = products(whole)
    assert {name: row.sha256 for name, row in rows.items()} == found
    assert set(found) == {
        *("digits_residual-fp32.onnx", "digits_residual-shared.dc", "digits_residual-shared.onnx"),
    }
    assert not list(whole.rglob("*-part"))
    assert not list(whole.rglob("*.progress"))
    shared, coded = rows["digits_residual-shared.onnx"], rows["digits_residual-shared.dc"]
    assert coded.evaluated_sha256 == shared.sha256
    assert coded.top1 == shared.top1
    assert coded.latency_ms is None
    assert shared.latency_ms is not None


def test_same_seed_same_bytes_other_seed_other_bytes(whole: Path, tmp_path: Path) -> None:
    again = Forked(main, "run", DIGITS, "--smoke", "--out", tmp_path / "again")
    other = Forked(main, "run", DIGITS, "--smoke", "--out", tmp_path / "other", "--seed", 1)
    assert finish(again)[0] == 0
    assert finish(other)[0] == 0
    assert products(tmp_path / "again") == products(whole)
    assert set(products(tmp_path / "other").values()).isdisjoint(products(whole).values())


def test_stages_of_one_machine_are_read_back_on_another_that_writes_the_files(
    whole: Path, tmp_path: Path
) -> None:
    command = ("run", DIGITS, "--smoke", "--out")
    status, out, err = finish(
        Forked(main, *command, tmp_path / "there", "--train-only", "--train-on", "auto")
    )
    assert (status, err) == (0, "")
    assert "resume there: --out COPY --resume, without --train-only, --train-on" in out
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["edgepress-run.json", "steps"]
    here = tmp_path / "here"
    shutil.copytree(tmp_path / "there", here)
    kept = {p: p.stat().st_mtime_ns for p in (here / "steps").glob("*.safetensors")}
    assert finish(Forked(main, *command, here, "--resume"))[0] == 0
    assert products(here) == products(whole)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_killed_in_the_middle_of_writes_and_resumed(whole: Path, tmp_path: Path) -> None:
    """Each kill leaves half a file aside; nothing that is whole is made again."""
    folder = tmp_path / "killed"
    arguments = ("run", DIGITS, "--smoke", "--out", folder, "--resume")
    for place in ("epoch", "stage", "delivery"):
        status, _, err = finish(Forked(main, *arguments, DIGITS_DIE=place))
        assert status == KILLED, err
        assert len(list(folder.rglob(".*-part"))) == 1, place
        assert_whole(folder)
        if place == "epoch":
            (state,) = folder.rglob("*.progress")
            assert torch.load(state, weights_only=True)["epoch"] == 1
    kept = {p: p.stat().st_mtime_ns for p in (folder / "steps").glob("*.safetensors")}
    assert len(kept) == 6
    status, _, err = finish(Forked(main, *arguments))
    assert (status, err) == (0, "")
    assert products(folder) == products(whole)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert not list(folder.rglob(".*-part"))
    assert_whole(folder)


def test_control_c_says_one_line_and_leaves_nothing_half(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    process = Forked(main, "run", DIGITS, "--smoke", "--out", folder, DIGITS_EPOCHS="100000")
    deadline = time.monotonic() + 120
    while not list(folder.rglob("*.progress")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status == 130
    assert len(err.splitlines()) == 1
    assert "--resume" in err
    assert not list(folder.rglob(".*-part"))
    assert_whole(folder)
