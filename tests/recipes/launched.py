"""What test_distributed starts as two processes: trains small nets and writes what came out.

Each process writes INDEX-CASE.safetensors into the folder that is its argument.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from compress.candidate import Candidate
from compress.constrained import constrained
from compress.spec import ModelSpec
from compress.stages.acting_norms import with_acting_norms
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Tuning
from recipes.toolbox import training
from recipes.toolbox.distributed import Team, is_first
from recipes.toolbox.training import Trainer
from recipes.toolbox.training_state import keep
from tests.candidates import fresh, mixed
from tests.digits import digits_task
from tests.nets import digits_plain_spec, digits_residual_spec
from tests.recipes.pictures import digit_splits

WEIGHTS = (1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0, 0.25, 1.0, 1.0)
# 131 pictures in batches of 33 and 32: shares of unequal length.
CASES: dict[str, dict[str, Any]] = {
    "plain": {"batch_size": 33},
    "all": {
        "batch_size": 33,
        "optimizer": "adam-sgd",
        "mixup": 0.4,
        "shift": 1,
        "class_weights": WEIGHTS,
        "label_smoothing": 0.1,
        "teacher": Candidate.untrained(digits_residual_spec(), 3),
    },
    "constrained": {"batch_size": 33, "optimizer": "sgd"},
    "norm": {"batch_size": 132},
    "grids": {"batch_size": 33, "optimizer": "sgd"},
}
EPOCHS = 2


def size_of(case: str) -> tuple[int, int]:
    """Pictures and epochs; with batch norm one step, for the first layer sees the same then."""
    return (132, 1) if case == "norm" else (131, EPOCHS)


def trained(case: str, checkpoint: Path | None) -> dict[str, torch.Tensor]:
    """The net's state after training; every process but the first begins with another one."""
    spec = digits_residual_spec if case in ("norm", "grids") else digits_plain_spec
    # Grids are no part of the model: each process calibrates the same ones from the same net.
    alike = is_first() or case == "grids"
    candidate = begun_with(spec(), case == "constrained", 0 if alike else 1)
    train = digit_splits().train
    count, epochs = size_of(case)
    pixels, labels, preprocess = train.images, train.labels, candidate.spec.preprocess
    trainer = Trainer(pixels[:count], labels[:count], preprocess, **CASES[case])
    if case == "grids":
        candidate = on_grids(candidate)
    with constrained(candidate, learn_steps=case == "grids") as tuned:
        trainer(tuned.model, Tuning(epochs, 1e-2, 0, checkpoint))
    tuned.result.check()
    state = tuned.result.network.state()
    steps = np.array([grid.scale for grid in tuned.result.activations.values()])
    learnt = {"activations": steps} if steps.size else {}
    return {n: torch.from_numpy(np.array(value)) for n, value in {**state, **learnt}.items()}


def on_grids(candidate: Candidate) -> Candidate:
    """int8 with batch norms that act still, as TrainInt8 trains it."""
    task = digits_task()
    folded = FoldBatchNorm()(candidate, task).candidate
    return with_acting_norms(candidate, QuantizeInt8()(folded, task).candidate)


def begun_with(spec: ModelSpec, encoded: bool, seed: int) -> Candidate:
    candidate = fresh(lambda: spec, seed)
    return mixed(candidate) if encoded else candidate


def keep_first(path: Path, model: Any, optimizing: Any, done: int) -> None:
    """As training_state.keep, and a copy of what stands there after the first epoch."""
    keep(path, model, optimizing, done)
    if done == 1:
        shutil.copy(path, path.with_suffix(".first"))


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0])
    torch.set_num_threads(1)
    training.keep = keep_first
    index = Team.join("cpu").share.index
    for case in CASES:
        kept = folder / f"{case}.progress"
        save_file(trained(case, kept), folder / f"{index}-{case}.safetensors")
    # Only the first process reads what was kept; all must go on from it, across Adam's end.
    resumed = trained("all", folder / "all.first")
    save_file(resumed, folder / f"{index}-resumed.safetensors")
