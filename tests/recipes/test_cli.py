"""What bad input gets: one line, exit code 2, nothing overwritten; and a quick --help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.errors import EdgepressError
from recipes import cli
from recipes.commands.run import recipe_names
from recipes.toolbox.folder import MARK
from targets.report import write_report
from tests.forked import Forked
from tests.recipes.commands import DIGITS, ROOT, edgepress, finish
from tests.reports import make_report, make_row, write_onnx, write_tflite

HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "sklearn", "scipy", "litert_torch", "tqdm")
RECIPE = "def main(job):\n    pass\n"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run in this process; the one line that it ends with, after exit code 2."""
    try:
        status = cli.main([str(a) for a in arguments])
    except SystemExit as error:  # argparse
        status = error.code
    err = capsys.readouterr().err
    assert status == 2, err
    assert err.startswith("edgepress: ")
    assert len(err.splitlines()) == 1
    return err


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import json, sys\nfrom recipes.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "recipes.cli" in loaded
    assert {name.partition(".")[0] for name in loaded} & set(HEAVY) == set()


def test_help_is_quick() -> None:
    """0.5 s are promised on a quiet machine; a busy one gets the best of several tries."""
    times: list[float] = []
    while len(times) < 20 and min(times, default=1) > 0.5:
        begun = time.perf_counter()
        status, out, _ = edgepress("--help")
        times.append(time.perf_counter() - begun)
        assert status == 0
        assert "run" in out
    assert min(times) <= 0.5


def test_the_shipped_recipes_are_found() -> None:
    assert {"lenet5_deep_compression", "lenet300_deep_compression"} <= set(recipe_names())
    assert not {"cli", "datasets"} & set(recipe_names())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("fly",), "'fly'"),
        (("run",), "RECIPE"),
        (("run", "lenet6"), "lenet5_deep_compression"),
        (("run", "nowhere.py"), "does not exist"),
        (("run", "lenet5_deep_compression", "--seed", "-1"), "from 0 to"),
        (("run", "lenet5_deep_compression", "--resume", "--overwrite"), "not allowed"),
        (("bench",), "FILE"),
        (("bench", "a.onnx", "--threads", "0"), "'0' is not a whole number from 1"),
        (("bench", "a.onnx", "--threads", "1,x"), "'x' is not a whole number"),
        (("bench", "a.onnx", "--runs", "0"), "from 1"),
        (("bench", "nowhere.onnx"), "nowhere.onnx is not there"),
        (("bench", "a.onnx", "--target", "usb:1"), "'usb:1' is none; targets are written local"),
        (("bench", "a.onnx", "--cpus", "-1"), "'-1' is not a whole number from 0 to 4095"),
        (("run", "lenet5_deep_compression", "--target", "local+npu"), "no engine 'npu'"),
        (("bench", "a.dc"), "run `edgepress unpack a.dc` first"),
        (("bench", "a.txt"), "a stock runtime loads .onnx and .tflite\n"),
        (("unpack",), "FILE"),
        (("unpack", "a.dc", "--to", "gguf"), "'gguf'"),
        (("unpack", "nowhere.dc"), "nowhere.dc does not exist"),
        (("report", "nowhere"), "nowhere is no folder"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("no_main", "x = 1\n", "is no recipe; a .py file with a function main(job) is"),
        ("other_main", "def main(argv):\n    pass\n", "is no recipe"),
        ("broken", RECIPE + "def (\n", "line 3 is not Python"),
        ("nulls", "\0", "null bytes"),
        ("latin", "# \xe9\n", "latin.py"),
        ("lonely", "import no_such_module_at_all\n" + RECIPE, "no_such_module_at_all"),
        ("json", RECIPE, "rename the file"),
        ("onnx", RECIPE, "rename the file"),
    ],
)
def test_files_that_are_no_recipe(
    name: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{name}.py"
    path.write_bytes(text.encode("latin-1"))
    out = tmp_path / "out"
    assert words in refused(capsys, "run", path, "--out", out)
    assert not out.exists()


def test_a_bug_in_a_recipe_keeps_its_traceback(tmp_path: Path) -> None:
    path = tmp_path / "buggy.py"
    path.write_text("def main(job):\n    return 1 / 0\n")
    status, _, err = edgepress("run", path, "--out", tmp_path / "out")
    assert status == 1
    assert "Traceback" in err
    assert f'{path}", line 2' in err
    assert "ZeroDivisionError" in err


def test_a_recipe_finds_modules_beside_it_and_its_own_net(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("WORD = 'found'\n")
    path = tmp_path / "with_a_net.py"
    path.write_text(
        "from dataclasses import dataclass\nimport beside_it\nfrom torch import nn\n"
        "from compress.spec import ModelSpec\n"
        "@dataclass\nclass Plan:\n    epochs: 'int' = 1\n"
        "def net():\n    return nn.Linear(3, 2)\n"
        "def main(job):\n    print(beside_it.WORD, ModelSpec('with_a_net:net').build())\n"
        "    job.finished = True\n"
    )
    status, out, err = finish(Forked(cli.main, "run", path, "--out", tmp_path / "out"))
    assert (status, err) == (0, "")
    assert "found Linear(in_features=3" in out


WEIGHTS_RECIPE = """
from compress.candidate import Candidate
from compress.models.lenet import lenet300_spec
def main(job):
    job.need_formats("dc")
    Candidate.load(lenet300_spec(), job.need_weights("a file of lenet300"))
    print("loaded")
"""


def test_a_recipe_must_finish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "ends_early.py"
    recipe.write_text(RECIPE)
    said = refused(capsys, "run", recipe, "--out", tmp_path / "out")
    assert "recipe ends_early ended without a report; call job.finish" in said
    sys.modules.pop("ends_early")


def test_options_that_a_recipe_does_not_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, after the work: what was made without them is whole."""
    recipe = tmp_path / "uses_data.py"
    recipe.write_text("def main(job):\n    assert job.data\n    job.finished = True\n")
    command = ["run", str(recipe), "--data", str(tmp_path), "--weights", "w.pt"]
    assert cli.main([*command, "--train-on", "auto", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"edgepress: recipe uses_data does not use {option}; ignored"
        for option in ("--weights", "--train-on")
    ]
    sys.modules.pop("uses_data")


def test_a_device_that_nothing_can_train_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "run", DIGITS, "--train-on", "tpu", "--out", tmp_path / "out")
    assert "'tpu' (a recipe's --train-on) is not on this machine; there are: cpu" in said


def test_several_processes_train_for_no_other_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    said = refused(capsys, "run", DIGITS, "--train-only", "--out", tmp_path / "out")
    assert "--train-only is for one process" in said
    assert not (tmp_path / "out").exists()


def hostile(path: Path, marker: Path) -> None:
    """A pickle that writes `marker` when it is unpickled as pickle would."""

    class Writes:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.write_text, (marker, "executed"))

    torch.save({"fc1.weight": Writes()}, path)


def test_weights_that_are_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "weighs.py"
    recipe.write_text(WEIGHTS_RECIPE)
    marker = tmp_path / "executed"
    hostile(tmp_path / "hostile.pt", marker)
    torch.save({"fc1.weight": torch.zeros(2, 3)}, tmp_path / "narrow.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "narrow.pt").read_bytes()[:100])
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    cases = {
        "absent.pt": ("absent.pt do not exist",),
        "hostile.pt": ("is not a file of plain tensors",),
        "narrow.pt": ("lacks tensor 'fc1.bias'",),
        "cut.pt": ("damaged or cut off",),
        "arrays.npz": ("is not a file of plain tensors",),
    }
    for name, words in cases.items():
        said = refused(
            *(capsys, "run", recipe, "--out", tmp_path / "out", "--weights", tmp_path / name)
        )
        assert all(word in said for word in words), said
        sys.modules.pop("weighs")
    assert not marker.exists()
    said = refused(capsys, "run", recipe, "--out", tmp_path / "out")
    assert "add --weights FILE, a file of lenet300" in said
    sys.modules.pop("weighs")


def test_wrong_shape_names_the_tensor_and_both_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from compress.models.lenet import lenet300_spec

    state = lenet300_spec().build().state_dict()
    torch.save({**state, "fc1.weight": torch.zeros(300, 10)}, tmp_path / "w.pt")
    recipe = tmp_path / "weighs2.py"
    recipe.write_text(WEIGHTS_RECIPE)
    said = refused(
        *(capsys, "run", recipe, "--out", tmp_path / "out", "--weights", tmp_path / "w.pt")
    )
    assert "fc1.weight" in said
    assert "(300, 10)" in said
    assert "(300, 784)" in said


class Blocker(MetaPathFinder):
    """litert_torch is not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname.partition(".")[0] == "litert_torch":
            raise ModuleNotFoundError(f"No module named {fullname!r}")


def main_without_converter(arguments: list[str]) -> int:
    sys.meta_path.insert(0, Blocker())
    return cli.main(arguments)


def test_a_missing_extra_is_told_before_training(tmp_path: Path) -> None:
    """And what was missing once can be installed and the same command given again."""
    out = tmp_path / "out"
    for _ in range(2):
        command = ("run", "lenet5_deep_compression", "--out", out)
        status, said, err = finish(Forked(main_without_converter, *command))
        assert (status, said) == (2, "")
        assert len(err.splitlines()) == 1
        assert "pip install 'edgepress[tflite]'" in err
        assert [p.name for p in out.iterdir()] == [MARK]


def test_damaged_files_to_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model at all")
    assert "damaged.onnx" in refused(capsys, "bench", damaged, "--runs", 1, "--rounds", 1)
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    assert "folder.onnx" in refused(capsys, "bench", folder)


def test_bench_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = write_onnx(tmp_path / "s.onnx"), write_onnx(tmp_path / "l.onnx", width=16)
    quick = ("--runs", "3", "--rounds", "2")
    assert cli.main(["bench", str(small), str(large), *quick]) == 0
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.startswith("file")
    assert first.startswith("s.onnx")
    assert second.startswith("l.onnx")
    assert " [" not in second  # two processes tell no interval
    assert cli.main(["bench", str(small), *quick, "--threads", "1,2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(m["file"], m["threads"]) for m in found] == [("s.onnx", 1), ("s.onnx", 2)]
    assert all(len(times) == 3 for m in found for times in m["times_ms"])
    assert cli.main(["bench", str(small), str(large), "--runs", "3", "--rounds", "3"]) == 0
    assert " [" in capsys.readouterr().out.splitlines()[2]
    hurried = ("bench", small, "--runs", 1_000_000, "--timeout", 1)  # the times alone take 1 s
    assert "ran longer than 1 s and was stopped" in refused(capsys, *hurried)


def test_bench_of_a_folder_on_two_targets_goes_on_where_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, log = tmp_path / "files", tmp_path / "bench.jsonl"
    folder.mkdir()
    write_onnx(folder / "a.onnx")
    write_tflite(folder / "a.tflite")
    (folder / "notes.txt").write_text("not a net")
    command = ["bench", str(folder), "--runs", "3", "--rounds", "1", "--out", str(log)]
    assert cli.main(command) == 0
    first = log.read_text()
    assert len(first.splitlines()) == 2
    assert cli.main([*command, "--target", "local", "--target", "local+plain"]) == 0
    said = capsys.readouterr()
    assert log.read_text().startswith(first)
    assert len(log.read_text().splitlines()) == 3
    assert "local+plain runs .tflite files: not a.onnx" in said.err
    assert any(line.split()[:2] == ["a.tflite", "local+plain"] for line in said.out.splitlines())
    alone = ("bench", folder / "a.onnx", "--target", "local+plain")
    assert "runs .tflite files: not a.onnx; give others" in refused(capsys, *alone)
    assert "is no log of a bench" in refused(capsys, *command[:-1], folder / "notes.txt")
    (tmp_path / "empty").mkdir()
    assert "holds no .tflite or .onnx file" in refused(capsys, "bench", tmp_path / "empty")


def test_bench_is_held_against_an_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, width in (("old", 4), ("new", 16)):
        (tmp_path / folder).mkdir()
        write_onnx(tmp_path / folder / "net.onnx", width=width)
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    folders = [str(tmp_path / "old"), str(tmp_path / "new")]
    command = ["bench", *folders, "--runs", "3", "--rounds", "3", "--out"]
    assert cli.main([*command, str(first)]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("new/net.onnx")
    kept = first.read_bytes()
    assert cli.main([*command, str(second), "--against", str(first)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith(" of 1 ratios lie within each other's intervals")
    assert any(line.split()[-1] in ("yes", "NO") for line in said)
    assert first.read_bytes() == kept
    again = [*command, first, "--against"]
    assert "is --out and --against" in refused(capsys, *again, first)
    assert "nowhere.jsonl is not there" in refused(capsys, *again, tmp_path / "nowhere.jsonl")
    assert "leave --json away" in refused(capsys, *again, second, "--json")


def test_bench_prints_what_it_could_and_says_what_it_could_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = write_onnx(tmp_path / "fine.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"no model at all")
    files = [str(fine), str(tmp_path / "damaged.onnx")]
    assert cli.main(["bench", *files, "--runs", "3", "--rounds", "1"]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines()[1].startswith("fine.onnx")
    assert said.err.startswith("edgepress: damaged.onnx cannot be measured on local")
    assert len(said.err.splitlines()) == 1


def test_report_renders_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_row("a.onnx", "fp32", 9000, 2.0, 0.99), make_row("b.onnx", "int8", 900, 1.0, 0.99)
    write_report(make_report(*rows), tmp_path / "report.json")
    before = (tmp_path / "report.json").read_bytes()
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "b.onnx" in capsys.readouterr().out.splitlines()[0]
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(first) == {"report.json", "report.md", "report.html"}
    assert first["report.json"] == before
    (tmp_path / "report.md").unlink()
    assert cli.main(["report", str(tmp_path)]) == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read report"),
        ("{", "is not JSON"),
        ("[]", "schema is None"),
        ('{"schema": 9}', "schema is 9"),
        ('{"schema": 1}', "is missing"),
    ],
)
def test_report_of_a_damaged_report(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.md").write_text("mine")
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    assert words in refused(capsys, "report", tmp_path)
    assert (tmp_path / "report.md").read_text() == "mine"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """As in `edgepress report DIR | head -0`."""
    write_report(make_report(make_row("a.onnx", "fp32", 9, 2.0, 0.9)), tmp_path / "report.json")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "recipes.cli", "report", str(tmp_path)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.returncode == cli.BROKEN_PIPE
    assert done.stderr == ""


@pytest.mark.parametrize("number", [28, 122])
def test_a_full_disk_is_one_line(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipes.commands.report as command

    def full(_: object) -> None:
        raise OSError(number, "No space left", "a.onnx")

    monkeypatch.setattr(command, "execute", full)
    assert "make room" in refused(capsys, "report", ".")


def test_messages_of_several_lines_become_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipes.commands.report as command

    def fails(_: object) -> None:
        raise EdgepressError("first\n  second\r\nthird")

    monkeypatch.setattr(command, "execute", fails)
    assert refused(capsys, "report", ".") == "edgepress: first second third\n"
