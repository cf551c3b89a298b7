"""What the recipes on CIFAR-10 share: the small nets trained here, their data and fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.candidate import Candidate
from compress.spec import ModelSpec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.task import Task
from recipes.datasets import npz
from recipes.toolbox.job import Job
from recipes.toolbox.optimizing import Precision
from recipes.toolbox.progress import say
from recipes.toolbox.small_nets import NARROWER
from recipes.toolbox.tasks import picture_task

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
# Fields of Trainer: how the baselines were trained.
LEARNING: dict[str, Any] = {
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "label_smoothing": 0.1,
    "shift": 4,
    "flip": True,
    "channels_last": True,
}
# Of FineTune, by net: dense layers learn 1.8 times as fast so, depthwise ones slower.
PRECISIONS: dict[str, Precision] = {"squeezenet": "bfloat16"}
DATA = "a folder with train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64)"


def load_baseline(spec: ModelSpec, net: str) -> Candidate:
    """The net of recipes/weights/NET-cifar10.safetensors (see train_cifar10)."""
    return Candidate.load(spec, weights_of(net))


def weights_of(net: str) -> Path:
    """Where our weights of a net for CIFAR-10 are, by train_cifar10's name of it."""
    return WEIGHTS / f"{net}-cifar10.safetensors"


def baseline(job: Job, spec: ModelSpec, net: str) -> Candidate:
    """The net of --weights, or that of recipes/weights."""
    return load_baseline(spec, net) if job.weights is None else Candidate.load(spec, job.weights)


def deliver_narrower(job: Job, net: str, task: Task) -> None:
    """Deliver the narrower nets of the family of `net`, for the honest line of the report.

    Those of recipes/weights, trained as `net` was and left uncompressed.
    """
    for name, (title, spec) in NARROWER[net].items():
        if not weights_of(name).is_file():
            say(f"{title} is not drawn beside: {weights_of(name).name} is missing")
            continue
        folded = job.compress(load_baseline(spec, name), [FoldBatchNorm()], task)
        label = f"{name.removeprefix(f'{net}-')}-fp32"
        job.deliver(label, folded, ("onnx", "tflite"), task, smaller=title)


def cifar10_task(job: Job, spec: ModelSpec, **settings: Any) -> Task:
    """Training as the baselines were trained; `settings` are further fields of Trainer.

    The rate only falls, unless told otherwise.
    """
    return picture_task(
        job,
        spec,
        npz(job.need_data(DATA)),
        "cifar10",
        **LEARNING,
        **settings,
    )
