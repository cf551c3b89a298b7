"""The recipes for fewer operations, from end to end in small: a few pictures, tiny nets.

What they write is onnx and containers alone here; the other formats are tested elsewhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.checkpoint import save_half
from compress.stages.fine_tune import FineTune
from compress.task import Task
from recipes.toolbox import cifar
from recipes.toolbox.job import Job
from recipes.toolbox.small_nets import FULL, NARROWER, SmallNet
from targets.report import Report, read_report
from tests.recipes.tiny_net import tiny_spec

CIFAR = ("cifar10_channels", "cifar10_svd_int8")
PHOTOS = ("imagenet_channels", "imagenet_svd")
NET = tiny_spec()
NARROWER_NET = tiny_spec("tinier")


class QuickJob(Job):
    """A smoke run that leaves out the formats whose exporters take long."""

    def need_formats(self, *formats: str) -> None:
        del formats

    def deliver(
        self,
        label: str,
        candidate: Candidate,
        formats: Sequence[str],
        task: Task,
        smaller: str | None = None,
    ) -> None:
        quick = [form for form in formats if form in ("onnx", "dc")] or ["dc"]
        super().deliver(label, candidate, quick, task, smaller)


def job_of(folder: Path, recipe: str) -> Job:
    (folder / "out").mkdir()
    return QuickJob(recipe, folder / "out", smoke=True)


def weights(spec_of: Candidate, path: Path) -> Path:
    save_half(spec_of, path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """train.npz, val.npz and test.npz of noise."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("train", 48), ("val", 24), ("test", 16)):
        x = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", x=x, y=np.arange(count) % 10)
    return folder


def report_of(job: Job, module: ModuleType) -> Report:
    module.main(job)
    assert job.unasked() == ()
    return read_report(job.folder / "report.json")


def smaller(report: Report) -> list[str]:
    return [row.path for row in report.rows if row.method == "smaller net"]


@pytest.fixture
def small_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family of tiny nets in the place of the three."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(cifar, "WEIGHTS", folder)
    monkeypatch.setitem(FULL, "squeezenet", SmallNet("SqueezeNet", NET))
    monkeypatch.setitem(FULL, "mobilenet_v2", SmallNet("Teacher", NET))
    narrower = {"squeezenet-0.5": SmallNet("SqueezeNet x 0.5", NARROWER_NET)}
    monkeypatch.setitem(NARROWER, "squeezenet", narrower)
    for name, spec in (("squeezenet", NET), ("mobilenet_v2", NET)):
        weights(Candidate.untrained(spec, 1), folder / f"{name}-cifar10.safetensors")
    weights(Candidate.untrained(NARROWER_NET, 2), cifar.weights_of("squeezenet-0.5"))


@pytest.mark.parametrize("recipe", CIFAR)
@pytest.mark.usefixtures("small_family")
def test_small_nets_lose_operations_and_learn_again(
    recipe: str, data: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path, recipe)
    job.give(data=data, net="squeezenet")
    report = report_of(job, importlib.import_module(f"recipes.{recipe}"))
    rows = {row.path: row for row in report.rows}
    first = report.rows[0]
    assert first.method == "none"
    assert smaller(report) == ["tinier-0.5-fp32.onnx"]
    thin = [row for row in report.rows if row.method in ("channels", "svd")]
    assert {row.precision for row in thin} >= {"fp32", "int8"}
    assert first.macs is not None
    for row in thin:
        assert row.macs is not None
        assert row.macs <= 0.6 * first.macs
    stages = [step.stage for step in report.steps]
    assert stages[1] == "FineTune"
    shared = recipe == "cifar10_channels"
    assert ("ShareByRate" in stages) == shared
    assert ("tiny-channels-shared.dc" in rows) == shared


def test_without_its_weights_a_narrower_net_is_left_out_and_named(
    small_family: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del small_family
    cifar.weights_of("squeezenet-0.5").unlink()
    job = job_of(tmp_path, "r")
    cifar.deliver_narrower(job, "squeezenet", Task(lambda _: {"top1": 0.0}, "none"))
    assert job.deliveries == []
    assert "SqueezeNet x 0.5 is not drawn beside: squeezenet-0.5-cifar10" in capsys.readouterr().out


def test_resnet_learns_from_the_whole_net_beside_the_smaller_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes import resnet56_channels as recipe

    monkeypatch.setattr(recipe, "resnet56_spec", lambda: NET)
    monkeypatch.setattr(recipe, "resnet20_spec", lambda: NARROWER_NET)
    monkeypatch.setattr(recipe, "TIMES_FEWER", (2.1,))
    net = Candidate.untrained(NET, 0)
    given = weights(net, tmp_path / "resnet56.safetensors")
    weights(Candidate.untrained(NARROWER_NET, 0), tmp_path / "resnet20.safetensors")
    job = job_of(tmp_path, "resnet56_channels")
    job.give(data=data, weights=given)
    report = report_of(job, recipe)
    first = report.rows[0]
    thin = [row for row in report.rows if row.method == "channels"]
    assert [row.path.rpartition(".")[0] for row in thin] == [
        *("tiny-channels-2.1", "tiny-channels-2.1"),
        *("tiny-channels-2.1-int8", "tiny-channels-2.1-int8"),
    ]
    assert smaller(report) == ["tinier-fp32.onnx"]
    for row in thin:
        assert row.macs is not None
        assert first.macs is not None
        assert row.macs <= first.macs / 2.1
    assert all("agreement" in step.metrics for step in report.steps)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """(photographs without labels, labelled ones), as .npz of noise at 32 pixels."""
    rng = np.random.default_rng(0)
    found: list[Path] = []
    for name, count in (("data", 24), ("test", 8)):
        x = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(count) % 10)
        found.append(tmp_path / f"{name}.npz")
    return found[0], found[1]


@pytest.mark.parametrize("recipe", PHOTOS)
def test_photographs_without_labels(
    recipe: str, photos: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"recipes.{recipe}")

    def load(path: Path) -> Candidate:
        return Candidate.load(NET, path)

    monkeypatch.setattr(module, "NETS", {"mobilenet_v2": ("MobileNetV2", load)})
    if recipe == "imagenet_channels":  # the tiny net has no sixteens to give
        monkeypatch.setattr(module, "CUT", replace(module.CUT, round_to=4))
    if recipe == "imagenet_svd":
        monkeypatch.setattr(module, "BUDGETS", (0.8, 0.6))
        monkeypatch.setattr(module, "DELIVERED", (0.8,))
    given = weights(Candidate.untrained(NET, 0), tmp_path / "w.safetensors")
    job = job_of(tmp_path, recipe)
    job.give(data=photos[0], test=photos[1], weights=given, net="mobilenet_v2")
    report = report_of(job, module)
    assert smaller(report) == []
    first, *rest = report.rows
    assert rest
    assert first.macs is not None
    assert all(row.macs is not None and row.macs < 0.81 * first.macs for row in rest)
    if recipe == "imagenet_svd":
        assert report.tradeoff is not None
        assert report.tradeoff.series == ("data-aware", "plain")
        assert len(report.tradeoff.points) == 4
        assert report.tradeoff.macs == first.macs
    else:
        assert [step.stage for step in report.steps][-1] == FineTune.__name__
        assert "Operations and time" in (job.folder / "report.md").read_text()


def test_large_nets_are_five_times_smaller_and_claim_no_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes import large_svd as recipe

    monkeypatch.setattr(recipe, "NETS", {"alexnet": ("AlexNet", NET)})
    job = job_of(tmp_path, "large_svd")
    job.give(net="alexnet")
    report = report_of(job, recipe)
    plain, thin = report.rows
    assert thin.baseline_bytes is not None
    assert thin.params is not None
    assert 4 * thin.params <= 0.2 * thin.baseline_bytes
    assert plain.top1 is None
    assert thin.top1 is None
    assert "accuracy is not claimed" in report.notes[0]
    assert "accuracy is not claimed" in (job.folder / "report.md").read_text()
