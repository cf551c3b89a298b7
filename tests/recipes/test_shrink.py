"""edgepress shrink, end to end on a small net; and what its user gets for bad input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image

from compress.importing.onnx_net import IMPORTERS
from recipes import cli
from recipes.shrinking import climb, reporting
from recipes.shrinking.net import open_net
from recipes.shrinking.wish import Wish
from recipes.toolbox.folder import MARK
from targets import slowness
from targets.advice import advise
from targets.measurement import Plan
from targets.report import Report, read_report
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import digits, trained
from tests.nets import digits_residual_spec
from tests.recipes.small_model import write_model, write_pictures
from tests.recipes.test_cli import refused
from tests.reports import write_onnx

QUICK = Plan(runs=5, rounds=1, warmup_s=0.01, max_s=0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.onnx, `pictures` (80, unlabelled) and `test` (60, labelled)."""
    folder = tmp_path_factory.mktemp("shrink")
    write_model(folder / "digits.onnx", digits_residual_spec)
    write_pictures(folder / "pictures", "validation", 80)
    write_pictures(folder / "test", "test", 60, labelled=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Hardly timed, and without the converter of TFLite, which tests of its own have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "PLAN", QUICK)
        patch.setattr(climb, "EXTRAS", {"tflite": ("not_installed", "tflite")})
        yield


def shrink(place: Path, out: str, *options: object) -> Report:
    arguments = ["shrink", place / "digits.onnx", "--out", place / out, *options]
    assert cli.main([str(a) for a in arguments]) == 0
    return read_report(place / out / "report.json")


@pytest.fixture(scope="module")
def unlabelled(place: Path) -> Report:
    """One run that several tests look at."""
    return shrink(place, "unlabelled", "--images", place / "pictures", "--test", place / "test")


def test_every_file_is_there_and_is_the_one_that_was_scored(
    place: Path, unlabelled: Report
) -> None:
    by_hash = {row.sha256: row for row in unlabelled.rows}
    assert {row.format for row in unlabelled.rows} == {"onnx", "onnx-packed", "dc"}
    for row in unlabelled.rows:
        path = place / "unlabelled" / row.path
        assert path.stat().st_size == row.file_bytes
        assert row.samples == 40
        assert row.evaluated_sha256 in by_hash
        if row.format == "dc":
            assert by_hash[row.evaluated_sha256].format == "onnx-packed"
        else:
            assert row.evaluated_sha256 == row.sha256


def test_without_labels_nothing_is_called_accuracy(unlabelled: Report) -> None:
    for row in unlabelled.rows:
        assert row.top1 is None
        assert row.not_measured["top1"] == "the pictures have no labels"
        assert row.agreement is not None
        assert row.estimated_drop is not None
        assert 0 <= row.estimated_drop <= 1 - row.agreement + 1e-9
    fp32 = unlabelled.rows[0]
    assert (fp32.precision, fp32.method, fp32.agreement) == ("fp32", "none", 1.0)
    assert "answer on" in advise(unlabelled).sentence
    assert any("have no labels" in note for note in advise(unlabelled).notes)


def test_agreement_is_that_of_the_files_with_the_original(place: Path, unlabelled: Report) -> None:
    """Counted anew: the pictures of odd rank, by name."""
    batch = digits()["validation"].images[1:80:2]
    batch = np.round(batch * 255).astype(np.uint8).astype(np.float32) / np.float32(255)
    original = OnnxRuntime().load(place / "digits.onnx").predict(batch).argmax(1)
    for row in unlabelled.rows:
        if row.format != "dc":
            session = OnnxRuntime().load(place / "unlabelled" / row.path)
            same = float((session.predict(batch).argmax(1) == original).mean())
            assert row.agreement == pytest.approx(same)


def test_a_file_four_times_smaller_is_advised(unlabelled: Report) -> None:
    """The net is 9 k weights: its metadata weigh more than a mobile net's."""
    ship = advise(unlabelled).ship
    assert ship is not None
    assert ship.format != "dc"
    smallest = min(row.file_bytes for row in unlabelled.rows)
    assert unlabelled.rows[0].file_bytes > 4 * smallest
    assert ship.latency_ms is not None


def test_test_pictures_score_what_was_timed(unlabelled: Report) -> None:
    for row in unlabelled.rows:
        if row.format != "dc":  # a container has the score of the file beside it
            assert (row.held_out is not None) == (row.latency_ms is not None)
        if row.held_out is not None:
            assert row.held_out.samples == 60
            change = row.held_out.won - row.held_out.lost
            assert row.held_out.top1 - row.held_out.top1_fp32 == pytest.approx(change / 60)
    assert any(row.held_out is not None for row in unlabelled.rows)


def test_the_report_says_what_was_assumed_and_split(place: Path, unlabelled: Report) -> None:
    notes = " ".join(unlabelled.notes)
    assert "grey pixels in [0, 1] was assumed" in notes
    assert "Of 80 unlabelled pictures in pictures, 40 calibrated and 40 others selected." in notes
    page = (place / "unlabelled" / "report.html").read_text()
    text = (place / "unlabelled" / "report.md").read_text()
    for rendered in (page, text):
        assert "Agreement" in rendered
        assert "Top-1 on" not in rendered
        assert "40 others selected" in rendered
        assert "Test top-1" in rendered


def test_labels_and_a_budget(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # How fast a net of a few microseconds is on a busy machine is not asked here.
    monkeypatch.setattr(slowness, "SLOWER", float("inf"))
    report = shrink(place, "budget", "--images", place / "test", "--budget", "16KB")
    assert report.budget_bytes == 16_000
    advice = advise(report)
    assert advice.ship is not None
    assert advice.ship.file_bytes <= 16_000
    rejected = {x.path for x in advice.rejected}
    passed = [row for row in report.rows if row.path not in rejected]
    assert advice.ship.top1 == max(row.top1 or 0.0 for row in passed)
    assert "most faithful file of at most 16.0 kB" in advice.sentence
    for row in report.rows:
        assert row.top1 is not None
        assert row.won is not None


def test_the_output_folder_is_never_replaced_unasked(
    capsys: pytest.CaptureFixture[str], place: Path, unlabelled: Report
) -> None:
    del unlabelled
    before = (place / "unlabelled" / MARK).read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        arguments = ("digits.onnx", "--images", "pictures", "--out", "unlabelled")
        said = refused(capsys, "shrink", *arguments)
    assert "add --overwrite to replace it" in said
    assert "--resume" not in said
    assert (place / "unlabelled" / MARK).read_bytes() == before
    assert (place / "unlabelled" / "report.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--budget", "1MB", "--max-drop", "1%"), "not allowed with"),
        (("--budget", "little"), "is no size"),
        (("--max-drop", "1"), "write 1% for percent"),
        (("--preprocess", "guess"), "there are imagenet"),
        (("--preprocess", "imagenet"), "channel_order GREY"),
        (("--labels", "none.txt"), "cannot be read"),
    ],
)
def test_bad_options_are_one_line(
    capsys: pytest.CaptureFixture[str], place: Path, options: tuple[str, ...], words: str
) -> None:
    out = place / "never"
    base = ("shrink", place / "digits.onnx", "--images", place / "pictures", "--out", out)
    assert words in refused(capsys, *base, *options)
    assert not out.exists()


def unreadable(folder: Path) -> str:
    (folder / "a.png").write_bytes(b"no picture")
    (folder / "b.png").write_bytes(b"no picture")
    return "cannot be read as a picture"


def nothing(folder: Path) -> str:
    (folder / "a.txt").write_text("x")
    return "no picture found"


def single(folder: Path) -> str:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    return "at least 2 are needed"


def foreign_labels(folder: Path) -> str:
    for name in "ab":
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"{name}.png")
    (folder / "labels.csv").write_text("file,label\na.png,3\nb.png,10\n")
    return "class numbers 0 to 9 are allowed"


@pytest.mark.parametrize("case", [unreadable, nothing, single, foreign_labels])
def test_bad_pictures_are_one_line(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, case: object
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    assert callable(case)
    words = case(folder)
    arguments = ("shrink", place / "digits.onnx", "--images", folder, "--out", tmp_path / "out")
    assert words in refused(capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_bad_models_are_one_line(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    pictures = place / "pictures"
    for model, words in (
        (tmp_path / "none.onnx", "none.onnx"),
        (write_onnx(tmp_path / "pixels.onnx"), "pixels.onnx"),
        ("net.h5", "net.h5"),
    ):
        said = refused(capsys, "shrink", model, "--images", pictures, "--out", tmp_path / "out")
        assert words in said


@pytest.mark.parametrize("fault", ["not finite", "imported wrongly"])
def test_an_earlier_run_is_replaced_only_by_a_net_that_answers(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
    unlabelled: Report,
    fault: str,
) -> None:
    model = onnx.load(place / "digits.onnx")
    if fault == "not finite":
        node = helper.make_node("Log", [model.graph.output[0].name], ["l"])
        model.graph.node.append(node)
        model.graph.output[0].name = "l"
        monkeypatch.setitem(IMPORTERS, "Log", lambda net, op: net.call(torch.log, op.value()))
        words = "differs from the file by nan"
    else:
        monkeypatch.setitem(IMPORTERS, "Relu", lambda net, op: net.call(torch.tanh, op.value()))
        words = "open the net by its own code instead"
    onnx.save(model, place / "changed.onnx")
    out = place / "unlabelled"
    before = sorted((p.name, p.stat().st_mtime_ns) for p in out.iterdir())
    arguments = ("--images", place / "pictures", "--out", out, "--overwrite")
    assert words in refused(capsys, "shrink", place / "changed.onnx", *arguments)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in out.iterdir()) == before
    assert unlabelled == read_report(out / "report.json")


def test_a_function_with_a_checkpoint_is_the_same_net(place: Path, tmp_path: Path) -> None:
    trained_net = trained(digits_residual_spec).candidate
    torch.save(trained_net.network.module().state_dict(), tmp_path / "digits.pt")
    model = "tests.nets:digits_residual_spec"
    net = open_net(Wish(model, place, place, weights=tmp_path / "digits.pt"))
    assert net.name == "digits_residual_spec"
    assert (net.notes, net.file_bytes) == ((), None)
    batch = digits()["test"].images[:20]
    assert np.array_equal(net.answer(batch).argmax(1), trained_net.predict(batch).argmax(1))


def test_preprocessing_by_file_is_no_assumption(place: Path, tmp_path: Path) -> None:
    given = tmp_path / "feed.json"
    given.write_text(json.dumps({"channel_order": "GREY", "scale": 1 / 16}))
    wish = Wish(str(place / "digits.onnx"), place / "pictures", tmp_path, preprocess=str(given))
    net = open_net(wish)
    assert net.notes == ()
    assert net.candidate.spec.preprocess.scale == 1 / 16
    assert net.file_bytes == (place / "digits.onnx").stat().st_size
