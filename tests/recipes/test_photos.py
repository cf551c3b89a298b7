"""The task of given ImageNet nets: who calibrates, who judges, who scores; --data and --test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.errors import DataError
from compress.spec import ModelSpec, Preprocess, TensorSpec
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task
from tests.candidates import fresh

SIDE = 8
GREY = Preprocess(channel_order="GREY", scale=1.0)


def spec() -> ModelSpec:
    from tests.nets import digits_residual_spec

    known = digits_residual_spec()
    return ModelSpec(known.builder, known.kwargs, known.inputs, known.classes, GREY)


@pytest.fixture
def dense() -> Candidate:
    assert spec().inputs == (TensorSpec("input", (1, 1, SIDE, SIDE)),)
    return fresh(spec)


def npz(path: Path, values: list[int], labels: list[int]) -> Path:
    """Pictures of one value each: picture k is all `values[k]`."""
    x = np.repeat(np.array(values, np.uint8), SIDE * SIDE * 3).reshape(-1, SIDE, SIDE, 3)
    np.savez(path, x=x, y=np.array(labels, np.int64))
    return path


@pytest.fixture
def job(tmp_path: Path) -> Job:
    found = Job("r", tmp_path / "out")
    data = npz(tmp_path / "data.npz", [0, 10, 20, 30, 40], [9] * 5)
    found.give(data=data, test=npz(tmp_path / "test.npz", [50, 60], [3, 4]))
    return found


def test_every_second_picture_calibrates_and_the_others_judge(job: Job, dense: Candidate) -> None:
    task = photo_task(job, dense)
    seen = np.concatenate(list(task.need_calibration("test")()))
    assert seen.shape == (3, 1, SIDE, SIDE)
    assert seen[:, 0, 0, 0].tolist() == [0, 20, 40]
    judged: list[float] = []

    def predict(batch: np.ndarray) -> np.ndarray:
        judged.extend(batch[:, 0, 0, 0].tolist())
        return dense.network.predict(batch)

    assert task.evaluate(predict) == {"agreement": 1.0, "kl": 0.0, "samples": 2.0}
    assert judged == [10, 30]


def test_test_pictures_are_seen_only_by_the_score(job: Job, dense: Candidate) -> None:
    task = photo_task(job, dense)
    assert task.test is not None
    right = task.test(lambda batch: np.eye(10, dtype=np.float32)[[3] * len(batch)])
    assert right.tolist() == [True, False]


def test_other_pictures_give_another_fingerprint(
    job: Job, dense: Candidate, tmp_path: Path
) -> None:
    before = photo_task(job, dense).fingerprint
    assert photo_task(job, dense).fingerprint == before
    job.give(data=npz(tmp_path / "other.npz", [0, 10, 20, 31, 40], [0] * 5), test=job.test)
    assert photo_task(job, dense).fingerprint != before


def test_what_is_missing_is_asked_for(job: Job, dense: Candidate, tmp_path: Path) -> None:
    test, data = job.test, job.data
    job.give(test=test)
    with pytest.raises(DataError, match="needs data: add --data DIR, photographs to calibrate"):
        photo_task(job, dense)
    job.give(data=data)
    with pytest.raises(DataError, match="needs test pictures: add --test DIR, labelled"):
        photo_task(job, dense)
    job.give(data=data, test=npz(tmp_path / "wrong.npz", [1], [10]))
    with pytest.raises(DataError, match="label 10, class numbers 0 to 9 are allowed"):
        photo_task(job, dense)


def test_a_smoke_run_takes_few(dense: Candidate, tmp_path: Path) -> None:
    quick = Job("r", tmp_path / "out", smoke=True)
    many = npz(tmp_path / "many.npz", list(range(100)), [0] * 100)
    quick.give(data=many, test=many)
    task = photo_task(quick, dense)
    assert sum(len(b) for b in task.need_calibration("test")()) == 32
    assert task.test is not None
    assert len(task.test(dense.network.predict)) == 32


def test_an_unused_test_option_is_told(tmp_path: Path) -> None:
    job = Job("r", tmp_path)
    job.give(test=tmp_path)
    assert job.unasked() == ("--test",)
    assert job.need_test("x") == tmp_path
    assert job.unasked() == ()
