"""ResNet-56 for CIFAR-10, given weights, with 2.1 and 2.57 times fewer operations.

    edgepress run resnet56_channels --data DIR --weights resnet56.safetensors

DIR holds train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64). Whole channels go and
the net learns again, the whole one answering beside the labels. The published weights learnt the
validation pictures, too, so the steps show nearness to their answers; the test pictures only score
the finished files. One to two hours; resnet20.safetensors beside the weights
is drawn as the smaller net, uncompressed.
"""

from __future__ import annotations

from compress.candidate import Candidate
from compress.models.resnet_cifar import resnet20_spec, resnet56_spec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_channels import PruneChannels
from compress.stages.quantize_int8 import QuantizeInt8
from recipes.datasets import npz
from recipes.toolbox.cifar import DATA, LEARNING
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import nearness_task

TIMES_FEWER = (2.1, 2.57)
EPOCHS = 12
RATE = 0.03
PRECISION = "bfloat16"


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    data = npz(job.need_data(DATA))
    weights = job.need_weights("ResNet-56's .safetensors or .pt file")
    dense = Candidate.load(resnet56_spec(), weights)
    task = nearness_task(
        job, dense, data, "cifar10", teacher=dense, **LEARNING, precision=PRECISION
    )
    folded = job.compress(dense, [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    smaller = weights.with_name("resnet20.safetensors")
    if smaller.is_file():
        net = job.compress(Candidate.load(resnet20_spec(), smaller), [FoldBatchNorm()], task)
        job.deliver("fp32", net, ("onnx", "tflite"), task, smaller="ResNet-20")
    for times in TIMES_FEWER:
        learnt = [PruneChannels(macs=1 / times, round_to=4), FineTune(job.epochs(EPOCHS), RATE)]
        thin = job.compress(dense, [*learnt, FoldBatchNorm()], task)
        int8 = job.compress(thin, [QuantizeInt8("mse")], task)
        job.deliver(f"channels-{times}", thin, ("onnx", "tflite", "dc"), task)
        job.deliver(f"channels-{times}-int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about("ResNet-56", "CIFAR-10", "channels", max_drop=0.009))
