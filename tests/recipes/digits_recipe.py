"""A recipe that takes seconds: 8 x 8 digits, pruned, fine-tuned and shared, to .onnx and .dc.

The variable DIGITS_DIE names the place where the process kills itself (as kill -9 would), in the
middle of a write; DIGITS_EPOCHS makes it last.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import compress.checkpoint
import targets.formats.onnx
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.share_weights import ShareWeights
from recipes.toolbox import training
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import picture_task
from tests.nets import digits_residual_spec
from tests.recipes.pictures import digit_splits

EPOCHS = int(os.environ.get("DIGITS_EPOCHS", "3"))
DIE = os.environ.get("DIGITS_DIE", "")


def main(job: Job) -> None:
    job.need_formats("onnx", "dc")
    arrange_death(DIE)
    spec = digits_residual_spec()
    task = picture_task(job, spec, digit_splits(), "digits", shift=1)
    dense = job.train(spec, [FineTune(EPOCHS, 3e-3), FoldBatchNorm()], task)
    shared = job.compress(
        dense, [PruneMagnitude(0.5), FineTune(2, 1e-3), ShareWeights(4), FineTune(2, 1e-4)], task
    )
    job.deliver("fp32", dense, ("onnx",), task)
    job.deliver("shared", shared, ("dc", "onnx"), task)
    job.finish(job.about("residual", "digits", "deep-compression", max_drop=0.05))


def arrange_death(place: str) -> None:
    """Make a write stop half-way by SIGKILL: the nth call of the writer that `place` names."""
    if place == "epoch":  # the state after the second epoch of the first fine-tune
        training.torch.save = _half(training.torch.save, 2)  # type: ignore[assignment]
    elif place == "stage":
        compress.checkpoint.write_bytes = _half(compress.checkpoint.write_bytes, 2)
    elif place == "delivery":  # the second .onnx
        targets.formats.onnx.write_bytes = _half(targets.formats.onnx.write_bytes, 2)
    else:
        assert not place, place


def _half(write: Callable[..., None], count: int) -> Callable[..., None]:
    """`write`, whose `count`th call leaves the first half of the file and dies."""
    calls: list[None] = []

    def dying(*arguments: object) -> None:
        calls.append(None)
        if len(calls) < count:
            write(*arguments)
            return
        original = Path.write_bytes

        def cut(path: Path, data: bytes) -> int:
            original(path, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("alive")

        Path.write_bytes = cut  # type: ignore[assignment,method-assign]
        write(*arguments)
        path = next(a for a in arguments if isinstance(a, Path))  # torch.save writes by itself
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    return dying
