"""Small SqueezeNet 1.1, MobileNetV2 or ShuffleNetV2 for CIFAR-10, trained from nothing.

    edgepress run train_cifar10 --net mobilenet_v2 --data DIR

DIR holds train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64). Writes, beside the
fp32 files, NET-cifar10.safetensors: the weights in half precision, which are the ones scored, and
which are in recipes/weights/. One to one and a half hours a net.
"""

from __future__ import annotations

from typing import NamedTuple

from compress.candidate import Candidate
from compress.checkpoint import save_half
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import ModelSpec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from recipes.toolbox.cifar import cifar10_task, load_baseline
from recipes.toolbox.job import Job

PEAK = 0.1
TEACHER = "mobilenet_v2"
TAUGHT_PEAK = 0.05


class Plan(NamedTuple):
    """epochs with the labels alone, then `taught` ones by the MobileNetV2 of recipes/weights."""

    title: str
    spec: ModelSpec
    epochs: int
    taught: int


NETS = {
    "squeezenet": Plan("SqueezeNet 1.1 small", squeezenet1_1_spec(small=True), 24, 6),
    "mobilenet_v2": Plan("MobileNetV2 small", mobilenet_v2_spec(small=True), 30, 0),
    "shufflenet_v2": Plan("ShuffleNetV2 small", shufflenet_v2_spec(small=True), 22, 8),
}


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite")
    plan = NETS[job.choose_net(NETS)]
    task = cifar10_task(job, plan.spec, rate="one-cycle")
    trained = job.train(plan.spec, [FineTune(job.epochs(plan.epochs), PEAK)], task)
    if plan.taught:
        teacher = load_baseline(NETS[TEACHER].spec, TEACHER)
        taught = cifar10_task(job, plan.spec, rate="one-cycle", teacher=teacher)
        trained = job.compress(trained, [FineTune(job.epochs(plan.taught), TAUGHT_PEAK)], taught)
    weights = job.folder / f"{job.net}-cifar10.safetensors"
    save_half(trained, weights)
    folded = job.compress(Candidate.load(plan.spec, weights), [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.finish(job.about(plan.title, "CIFAR-10", "training", max_drop=0.0))
