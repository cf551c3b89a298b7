"""Scoring, tasks, job and sizes: what recipes stand on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.candidate import Candidate, Step
from compress.errors import DataError, ExportError, MissingExtraError, RecipeError
from compress.extras import need, need_installed
from compress.spec import Preprocess
from compress.task import Batch
from recipes.datasets import Split, Splits
from recipes.toolbox import delivery
from recipes.toolbox.job import Job
from recipes.toolbox.scoring import Classification
from recipes.toolbox.summary import Sizes
from recipes.toolbox.tasks import CALIBRATION, nearness_task, picture_task
from recipes.toolbox.training import Trainer
from targets.formats import deep_compression
from targets.formats.deep_compression import DeepCompressionExporter
from tests.candidates import fresh, mixed
from tests.digits import trained
from tests.nets import digits_plain_spec, digits_residual_spec
from tests.recipes.pictures import digit_splits

PREPROCESS = Preprocess(channel_order="GREY", scale=1.0)


def coded(count: int) -> Split:
    """Pictures of 1 x 2 pixels that say their own number; the labels are number % 7."""
    numbers = np.arange(count)
    pixels = np.stack([numbers % 256, numbers // 256], -1).astype(np.uint8)[:, None, :]
    return Split(pixels, (numbers % 7).astype(np.int64))


def reader(wrong: set[int]) -> tuple[list[int], object]:
    """A predict function that reads the number, errs on `wrong`, and notes its batch sizes."""
    sizes: list[int] = []

    def predict(batch: Batch) -> Batch:
        sizes.append(len(batch))
        numbers = (batch[:, 0, 0, 0] + 256 * batch[:, 0, 0, 1]).astype(int)
        answers = np.array([(n % 7 + (n in wrong)) % 7 for n in numbers.tolist()])
        return np.eye(7, dtype=np.float32)[answers]

    return sizes, predict


def test_scores_count_every_picture_once() -> None:
    split = coded(1203)
    wrong = {0, 499, 500, 1202}
    sizes, predict = reader(wrong)
    judge = Classification(split.images, split.labels, PREPROCESS)
    right = judge.right(predict)
    assert set(np.flatnonzero(~right).tolist()) == wrong
    assert right.dtype == np.bool_
    assert sum(sizes) == 1203
    assert judge(predict) == {"top1": 1199 / 1203, "samples": 1203.0}


@pytest.mark.parametrize(("pictures", "labels"), [(3, 2), (0, 0), (2, 3)])
def test_pictures_and_labels_must_match(pictures: int, labels: int) -> None:
    with pytest.raises(DataError, match="equal, non-zero numbers"):
        Classification(coded(pictures).images, coded(labels).labels, PREPROCESS)


def changed(data: Splits, part: str) -> Splits:
    """The same data with one pixel of `part` changed."""
    split: Split = getattr(data, part)
    images = split.images.copy()
    images[0, 0, 0] ^= 1
    return replace(data, **{part: Split(images, split.labels)})


def test_a_task_keeps_its_data_apart(tmp_path: Path) -> None:
    job, spec, data = Job("r", tmp_path, seed=5), digits_plain_spec(), digit_splits()
    task = picture_task(job, spec, data, "digits")
    batches = list(task.need_calibration("test")())
    assert [b.shape for b in batches] == [(64, 1, 8, 8)] * (CALIBRATION // 64)
    first = spec.preprocess.normalise(data.train.images[:CALIBRATION])
    np.testing.assert_array_equal(np.concatenate(batches), first)
    assert len(list(task.need_calibration("test")())) == len(batches)
    seen: list[int] = []

    def predict(batch: Batch) -> Batch:
        seen.append(len(batch))
        return np.zeros((len(batch), 10), np.float32)

    assert task.evaluate(predict)["samples"] == len(data.val) == sum(seen)
    assert task.test is not None
    assert len(task.test(predict)) == len(data.test)
    assert task.seed == 5


def test_a_task_trains_on_the_device_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One torch says that there is; whether it computes the same, a real one must show."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card 9")
    tasks = {}
    for device in ("cpu", "cuda", "auto"):
        job = Job("r", tmp_path)
        job.give(train_on=device)
        tasks[device] = picture_task(job, digits_plain_spec(), digit_splits(), "digits")
        assert job.unasked() == ()
    trainers = [task.finetune for task in tasks.values()]
    assert [t.device for t in trainers if isinstance(t, Trainer)] == ["cpu", "cuda", "cuda"]
    assert [task.trains_on for task in tasks.values()] == ["", "Card 9", "Card 9"]
    # Where it trains is not what: a run that was begun on the one is resumed on the other.
    assert len({task.fingerprint for task in tasks.values()}) == 1


def test_a_fingerprint_notices_what_the_stages_see(tmp_path: Path) -> None:
    job, spec, data = Job("r", tmp_path), digits_plain_spec(), digit_splits()

    def fingerprint(data: Splits, **settings: int) -> str:
        return picture_task(job, spec, data, "digits", **settings).fingerprint

    labels = data.train.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    relabelled = replace(data, train=Split(data.train.images, labels))
    others = [
        *(fingerprint(changed(data, "train")), fingerprint(changed(data, "val"))),
        *(fingerprint(relabelled), fingerprint(data, shift=1), fingerprint(data, flip=True)),
    ]
    assert len({fingerprint(data), *others}) == 6
    assert fingerprint(data) == fingerprint(changed(data, "test"))


def test_a_smoke_run_is_small(tmp_path: Path) -> None:
    whole, smoke = Job("r", tmp_path), Job("r", tmp_path, smoke=True)
    split = digit_splits().train
    assert whole.few(split) is split
    assert len(smoke.few(split)) == 512
    assert (whole.epochs(8), smoke.epochs(8)) == (8, 1)


def test_what_a_job_needs(tmp_path: Path) -> None:
    job = Job("r", tmp_path)
    with pytest.raises(DataError, match="recipe r needs data: add --data DIR, with pictures"):
        job.need_data("with pictures")
    with pytest.raises(DataError, match="recipe r needs weights: add --weights FILE, of r"):
        job.need_weights("of r")
    job.give(data=tmp_path, weights=tmp_path)
    assert job.need_data("") == job.need_weights("") == tmp_path
    with pytest.raises(RecipeError, match="delivered no file"):
        job.finish(job.about("m", "d", "k", 0.1))


def test_formats_are_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("r", tmp_path)
    job.need_formats("onnx", "tflite", "dc")
    with pytest.raises(ExportError, match="format 'gguf' was asked for; there are onnx, tflite"):
        job.need_formats("onnx", "gguf")
    monkeypatch.setitem(delivery.EXTRAS, "tflite", ("no_such_module_at_all", "tflite"))
    with pytest.raises(MissingExtraError, match=r"recipe r .*pip install 'edgepress\[tflite\]'"):
        job.need_formats("onnx", "tflite")
    job.need_formats("onnx", "dc")


def test_needed_packages_are_found_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "this", raising=False)
    need_installed("this", "x", "a test")
    assert "this" not in sys.modules
    monkeypatch.setitem(sys.modules, "this", None)
    for missing in ("this", "no_such_module_at_all", "no_such_package.part"):
        for ask in (need, need_installed):
            with pytest.raises(MissingExtraError, match=r"pip install 'edgepress\[x\]'"):
                ask(missing, "x", "a test")


def step(candidate: Candidate, name: str) -> Candidate:
    done = Step(name, f"{name}()", 0.0, digest=candidate.digest())
    return replace(candidate, history=(*candidate.history, done))


def test_branches_of_equal_depth_keep_their_own_sizes(tmp_path: Path) -> None:
    """Pruned and shared from one dense net, each fine-tuned after: no size replaces another."""
    dense = step(fresh(), "FineTune")
    branches = [
        step(step(mixed(dense), "ShareWeights"), "FineTune"),
        step(step(dense, "ShareWeights"), "FineTune"),
    ]
    sizes = Sizes(tmp_path)
    for candidate in (dense, *branches):
        sizes.measure(candidate)
    first, second = (sizes.of(branch) for branch in branches)
    assert list(first) == list(second) == ["1. FineTune", "3. FineTune"]
    assert first["1. FineTune"] == second["1. FineTune"]
    assert first["3. FineTune"] < second["3. FineTune"]


def test_sizes_are_of_real_containers(tmp_path: Path) -> None:
    dense = step(fresh(), "FineTune")
    small = step(step(mixed(dense), "ShareWeights"), "FineTune")
    folder = tmp_path / "steps"
    sizes = Sizes(folder)
    sizes.measure(dense)
    sizes.measure(small)
    real = [DeepCompressionExporter()(c, tmp_path / "x.dc").size_bytes for c in (dense, small)]
    assert sizes.of(dense) == {"1. FineTune": real[0]}
    assert sizes.of(small) == {"1. FineTune": real[0], "3. FineTune": real[1]}
    assert real[1] < real[0]
    assert list(folder.iterdir()) == []
    assert deep_compression.load(tmp_path / "x.dc", digits_plain_spec()).digest() == small.digest()


def test_a_net_that_knows_the_validation_pictures_is_judged_by_its_own_answers(
    tmp_path: Path,
) -> None:
    data = digit_splits()
    dense = trained(digits_residual_spec).candidate
    seen: list[np.ndarray] = []

    def watching(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return dense.predict(batch)

    task = nearness_task(Job("r", tmp_path), dense, data, "digits")
    assert task.finetune is None
    assert task.evaluate(watching) == {"agreement": 1.0, "kl": 0.0, "samples": len(data.val)}
    plain = dense.spec.preprocess.normalise(data.val.images)
    same = (np.concatenate(seen) == plain).reshape(len(plain), -1).all(1)
    assert same.mean() < 0.1
    other = task.evaluate(lambda batch: dense.predict(np.zeros_like(batch)))
    assert other["kl"] > 1
