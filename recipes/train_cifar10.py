"""Small SqueezeNet 1.1, MobileNetV2 or ShuffleNetV2 for CIFAR-10, trained from nothing.

    edgepress run train_cifar10 --net mobilenet_v2 --data DIR
    edgepress run train_cifar10 --net mobilenet_v2-0.5 --data DIR

DIR holds train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64). Writes, beside the
fp32 files, NET-cifar10.safetensors: the weights in half precision, which are the ones scored, and
which are in recipes/weights/. One to one and a half hours a net, minutes on a GPU (--train-on).
NET-0.75 and NET-0.5 have fewer channels and are trained in the same way: what the other recipes'
reports draw as "a smaller net, uncompressed".
"""

from __future__ import annotations

from typing import NamedTuple

from compress.candidate import Candidate
from compress.checkpoint import save_half
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from recipes.toolbox.cifar import cifar10_task, load_baseline
from recipes.toolbox.job import Job
from recipes.toolbox.small_nets import FULL, NARROWER

PEAK = 0.1
TEACHER = "mobilenet_v2"
TAUGHT_PEAK = 0.05


class Plan(NamedTuple):
    """epochs with the labels alone, then `taught` ones by the MobileNetV2 of recipes/weights."""

    epochs: int
    taught: int


PLANS = {"squeezenet": Plan(24, 6), "mobilenet_v2": Plan(30, 0), "shufflenet_v2": Plan(22, 8)}
NETS = {
    name: (plan, net)
    for family, plan in PLANS.items()
    for name, net in {family: FULL[family], **NARROWER[family]}.items()
}


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite")
    plan, (title, spec) = NETS[job.choose_net(NETS)]
    task = cifar10_task(job, spec, rate="one-cycle")
    trained = job.train(spec, [FineTune(job.epochs(plan.epochs), PEAK)], task)
    if plan.taught:
        teacher = load_baseline(FULL[TEACHER].spec, TEACHER)
        taught = cifar10_task(job, spec, rate="one-cycle", teacher=teacher)
        trained = job.compress(trained, [FineTune(job.epochs(plan.taught), TAUGHT_PEAK)], taught)
    weights = job.folder / f"{job.net}-cifar10.safetensors"
    save_half(trained, weights)
    folded = job.compress(Candidate.load(spec, weights), [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.finish(job.about(title, "CIFAR-10", "training", max_drop=0.0))
