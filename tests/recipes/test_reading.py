"""Pictures read as they are needed train to the very bytes of the same pictures in memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import DataError
from compress.task import Tuning
from recipes.datasets import Splits
from recipes.pictures.opening import open_splits
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import PictureArray
from recipes.toolbox.job import Job
from recipes.toolbox.reading import Reader, is_held, one_ahead
from recipes.toolbox.tasks import picture_task
from recipes.toolbox.training import Trainer
from tests.candidates import fresh
from tests.nets import digits_residual_spec
from tests.recipes.pictures import digit_splits

SPEC = digits_residual_spec()


def prepared(count: int = 100) -> Prepared:
    train = digit_splits().train
    return Prepared(
        PictureArray(train.images[:count], None, Path("x.npz")), SPEC.preprocess, (8, 8)
    )


def trained(pixels: Any, **settings: Any) -> dict[str, bytes]:
    labels = digit_splits().train.labels[: len(pixels)]
    model = fresh(digits_residual_spec).network.module().requires_grad_(True).train()
    Trainer(pixels, labels, SPEC.preprocess, batch_size=24, **settings)(
        model, Tuning(2, 1e-2, 0, None)
    )
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.5, "shift": 1, "sampling": "over"}])
def test_lazily_read_pictures_train_to_the_same_bytes(settings: dict[str, Any]) -> None:
    whole = trained(prepared()[:], **settings)
    for readers in (1, 3):
        assert trained(prepared(), readers=readers, **settings) == whole


def test_pictures_by_their_numbers() -> None:
    pictures = prepared()
    numbers = np.array([7, 3, 3, 99, -1])
    np.testing.assert_array_equal(pictures[numbers], pictures[:][numbers])
    with pytest.raises(IndexError):
        pictures[np.array([100])]
    reader = Reader(pictures, 3)
    np.testing.assert_array_equal(reader(numbers), pictures[:][numbers])
    reader.close()


def test_only_the_pictures_of_a_batch_are_read() -> None:
    asked: list[int] = []

    class Watched:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, where: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
            assert not isinstance(where, slice)
            asked.extend(where.tolist())
            return prepared()[where]

    assert not is_held(Watched())
    trained(Watched())
    assert sorted(asked) == sorted([*range(100)] * 2), "each once an epoch"


def test_the_next_is_made_while_this_one_is_used() -> None:
    begun: list[int] = []
    other = threading.Event()

    def work(job: int) -> int:
        begun.append(job)
        if job == 1:
            other.set()
        return job * 10

    results = one_ahead(work, range(5))
    assert next(results) == 0
    assert other.wait(60)
    time.sleep(0.02)
    assert begun == [0, 1]
    assert list(results) == [10, 20, 30, 40]


def test_a_picture_that_cannot_be_read_ends_the_training_in_one_line() -> None:
    class Broken:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, where: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
            raise DataError("cat.jpg: cannot be read")

    before = threading.active_count()
    with pytest.raises(DataError, match=r"cat\.jpg"):
        trained(Broken())
    assert threading.active_count() == before


def splits_in(folder: Path) -> Path:
    for part, count in (("train", 60), ("val", 20), ("test", 20)):
        split = getattr(digit_splits(), part)
        colour = np.repeat(split.images[:count, :, :, None] * 15, 3, axis=3)
        np.savez(folder / f"{part}.npz", x=colour, y=split.labels[:count])
    return folder


def test_a_task_of_lazily_read_pictures(tmp_path: Path) -> None:
    """The same calibration and scores; its fingerprint notices other pictures."""
    folder = splits_in(tmp_path)
    held, lazy = (open_splits(folder, SPEC, lazy=kind) for kind in (False, True))
    assert isinstance(lazy.train.images, Prepared)
    tasks = [picture_task(Job("r", tmp_path), SPEC, data, "d") for data in (held, lazy)]
    batches = [np.concatenate(list(task.need_calibration("test")())) for task in tasks]
    np.testing.assert_array_equal(*batches)
    predict = fresh(digits_residual_spec).predict
    assert tasks[0].evaluate(predict) == tasks[1].evaluate(predict)
    again = picture_task(Job("r", tmp_path), SPEC, lazy, "d")
    assert again.fingerprint == tasks[1].fingerprint
    fewer = Splits(lazy.val, lazy.val, lazy.test)
    assert picture_task(Job("r", tmp_path), SPEC, fewer, "d").fingerprint != again.fingerprint


def test_a_fingerprint_notices_the_teacher(tmp_path: Path) -> None:
    def fingerprint(**settings: Any) -> str:
        return picture_task(Job("r", tmp_path), SPEC, digit_splits(), "d", **settings).fingerprint

    nets = [fresh(digits_residual_spec, seed) for seed in (0, 0, 1)]
    found = [fingerprint(teacher=net) for net in nets]
    assert found[0] == found[1] != found[2]
    assert nets[0].digest() in found[0]
    functions = [fingerprint(teacher=net.predict) for net in nets]
    assert functions[0] == functions[1] != functions[2]
    others = [fingerprint(), fingerprint(mixup=0.2), fingerprint(class_weights="balanced")]
    assert len({*found, *functions, *others}) == 7
