"""ResNet-20 or ResNet-56 for CIFAR-10, given weights, to int8 without training.

    edgepress run resnet_int8 --net resnet20 --data DIR --weights resnet20.safetensors

DIR holds train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64). Calibrates on 512
training pictures; the test pictures only score the finished files. The published weights learnt
the validation pictures, too, so settings are judged by nearness to the fp32 net's answers.
"""

from __future__ import annotations

from compress.candidate import Candidate
from compress.models.resnet_cifar import resnet20_spec, resnet56_spec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from recipes.datasets import npz
from recipes.toolbox.cifar import DATA
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import nearness_task

NETS = {"resnet20": ("ResNet-20", resnet20_spec), "resnet56": ("ResNet-56", resnet56_spec)}


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    title, spec = NETS[job.choose_net(NETS)]
    data = npz(job.need_data(DATA))
    dense = Candidate.load(spec(), job.need_weights("the net's .safetensors or .pt file"))
    task = nearness_task(job, dense, data, "cifar10")
    folded = job.compress(dense, [FoldBatchNorm()], task)
    int8 = job.compress(folded, [QuantizeInt8("mse")], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about(title, "CIFAR-10", "int8", max_drop=0.005))
