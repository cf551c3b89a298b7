"""ResNet-20 for CIFAR-10, given weights, as small as it gets: pruned while it learns from itself.

    edgepress run resnet20_deep_compression --data DIR --weights resnet20.safetensors

DIR holds train.npz, val.npz and test.npz. The published weights learnt the validation pictures,
too, so settings are judged by nearness to the dense net's answers. A quarter of an hour.
"""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate
from compress.models.resnet_cifar import resnet20_spec
from recipes.datasets import npz
from recipes.toolbox.cifar import DATA, cifar10_task
from recipes.toolbox.job import Job
from recipes.toolbox.smallest import FORMATS, Plan, deliver_smallest
from recipes.toolbox.tasks import nearness_task

PLAN = Plan(sparsity=0.7, epochs=6, rounds=4, rate=0.02, price=2e-7)


def main(job: Job) -> None:
    job.need_formats(*FORMATS)
    spec, data = resnet20_spec(), npz(job.need_data(DATA))
    dense = Candidate.load(spec, job.need_weights("a .safetensors or .pt file of resnet20"))
    taught = cifar10_task(job, spec, teacher=dense)
    near = nearness_task(job, dense, data, "cifar10")
    task = replace(near, finetune=taught.finetune, fingerprint=taught.fingerprint)
    deliver_smallest(job, dense, task, PLAN)
    job.finish(job.about("ResNet-20", "CIFAR-10", "deep-compression", max_drop=0.005))
