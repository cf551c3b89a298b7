"""LeNet-5 on MNIST as small as it gets: pruned while it learns, levels by rate; then int8.

Beside lenet5_deep_compression, which does what the paper's authors did, in far less time.
"""

from __future__ import annotations

from compress.models.lenet import lenet5_spec
from compress.stages.fine_tune import FineTune
from recipes.datasets import mnist
from recipes.toolbox.job import Job
from recipes.toolbox.smallest import FORMATS, Plan, deliver_smallest
from recipes.toolbox.tasks import picture_task

# Its teacher is the dense net. Chosen on the validation images.
PLAN = Plan(sparsity=0.975, epochs=36, rounds=20, rate=2e-3, price=2e-8)


def main(job: Job) -> None:
    job.need_formats(*FORMATS)
    spec = lenet5_spec()
    task = picture_task(job, spec, mnist(), "mnist", shift=2)
    dense = job.train(spec, [FineTune(job.epochs(12), 2e-3)], task)
    taught = picture_task(job, spec, mnist(), "mnist", shift=2, teacher=dense)
    deliver_smallest(job, dense, taught, PLAN)
    job.finish(job.about("LeNet-5", "MNIST", "smallest", max_drop=0.005))
