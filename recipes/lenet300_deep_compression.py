"""LeNet-300-100 on MNIST, beyond table 2 of Deep Compression (Han, Mao and Dally 2016).

Pruned while it learns, levels by rate; then int8. Five minutes.
"""

from __future__ import annotations

from compress.models.lenet import lenet300_spec
from compress.stages.fine_tune import FineTune
from recipes.datasets import mnist
from recipes.toolbox.job import Job
from recipes.toolbox.smallest import FORMATS, Plan, deliver_smallest
from recipes.toolbox.tasks import picture_task

# Its teacher is the dense net. Chosen on the validation images.
PLAN = Plan(sparsity=0.97, epochs=36, rounds=24, rate=3e-3, price=2e-7)


def main(job: Job) -> None:
    job.need_formats(*FORMATS)
    spec = lenet300_spec()
    task = picture_task(job, spec, mnist(), "mnist", shift=2)
    dense = job.train(spec, [FineTune(job.epochs(20), 2e-3)], task)
    taught = picture_task(job, spec, mnist(), "mnist", shift=2, teacher=dense)
    deliver_smallest(job, dense, taught, PLAN)
    job.finish(job.about("LeNet-300-100", "MNIST", "deep-compression", max_drop=0.005))
