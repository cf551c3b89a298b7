"""The three small nets for CIFAR-10, as small as they get: pruned while they learn, levels by rate.

    edgepress run cifar10_deep_compression --net squeezenet --data DIR

DIR holds train.npz, val.npz and test.npz. The zeros grow from epoch to epoch of one training, in
which the small MobileNetV2 answers beside the labels; then int8. Half an hour a net.
"""

from __future__ import annotations

from recipes.toolbox.cifar import baseline, cifar10_task, deliver_narrower, load_baseline
from recipes.toolbox.job import Job
from recipes.toolbox.small_nets import FULL
from recipes.toolbox.smallest import FORMATS, Plan, deliver_smallest

TEACHER = "mobilenet_v2"
# Chosen by the accuracy on the validation pictures.
PLANS = {
    "squeezenet": Plan(sparsity=0.85, epochs=10, rounds=7, rate=0.05, price=4e-8),
    "mobilenet_v2": Plan(sparsity=0.88, epochs=6, rounds=4, rate=0.05, price=2.5e-9),
    "shufflenet_v2": Plan(sparsity=0.87, epochs=8, rounds=5, rate=0.05, price=2.5e-8),
}


def main(job: Job) -> None:
    job.need_formats(*FORMATS)
    net = job.choose_net(FULL)
    title, spec = FULL[net]
    task = cifar10_task(job, spec, teacher=load_baseline(FULL[TEACHER].spec, TEACHER))
    deliver_smallest(job, baseline(job, spec, net), task, PLANS[net])
    deliver_narrower(job, net, task)
    job.finish(job.about(title, "CIFAR-10", "deep-compression", max_drop=0.005))
