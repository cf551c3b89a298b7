"""The three small nets for CIFAR-10 to int8, with and without training on the grids.

    edgepress run cifar10_qat_int8 --net mobilenet_v2 --data DIR

DIR holds train.npz, val.npz and test.npz. The trained one begins with the float net, its batch
norms acting, and learns from that net's answers beside the labels.
"""

from __future__ import annotations

from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.train_int8 import TrainInt8
from recipes.toolbox.cifar import baseline, cifar10_task, deliver_narrower
from recipes.toolbox.job import Job
from recipes.toolbox.small_nets import FULL

QUANTIZE = QuantizeInt8("mse")
EPOCHS = 1
RATE = 0.002


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    net = job.choose_net(FULL)
    title, spec = FULL[net]
    dense = baseline(job, spec, net)
    task = cifar10_task(job, spec, teacher=dense, temperature=1.0)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    int8 = job.compress(folded, [QUANTIZE], task)
    trained = job.compress(dense, [TrainInt8(job.epochs(EPOCHS), RATE, QUANTIZE)], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    job.deliver("int8-trained", trained, ("onnx", "tflite", "dc"), task)
    deliver_narrower(job, net, task)
    job.finish(job.about(title, "CIFAR-10", "int8", max_drop=0.005))
