"""ResNet-20 for CIFAR-10, given weights, to int8 without training.

    edgepress run resnet20_int8 --data DIR --weights resnet20.safetensors

DIR holds train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64). Calibrates on 512
training pictures; the test pictures only score the finished files. The published weights learnt
the validation pictures, too, so settings are judged by nearness to the fp32 net's answers.
"""

from __future__ import annotations

from compress.candidate import Candidate
from compress.models.resnet_cifar import resnet20_spec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from recipes.datasets import npz
from recipes.toolbox.cifar import DATA
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import nearness_task


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    data = npz(job.need_data(DATA))
    dense = Candidate.load(
        resnet20_spec(), job.need_weights("a .safetensors or .pt file of resnet20")
    )
    task = nearness_task(job, dense, data, "cifar10")
    folded = job.compress(dense, [FoldBatchNorm()], task)
    int8 = job.compress(folded, [QuantizeInt8("mse")], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about("ResNet-20", "CIFAR-10", "int8", max_drop=0.005))
