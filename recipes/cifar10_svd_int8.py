"""The three small nets for CIFAR-10 with thin layers for thick ones, and then int8.

    edgepress run cifar10_svd_int8 --net squeezenet --data DIR

DIR holds train.npz, val.npz and test.npz. Each layer becomes two by its singular values, as far as
a budget of operations asks, and the net learns again, the small MobileNetV2 answering beside the
labels. A quarter to half an hour a net.
"""

from __future__ import annotations

from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from recipes.toolbox.cifar import (
    PRECISIONS,
    baseline,
    cifar10_task,
    deliver_narrower,
    load_baseline,
)
from recipes.toolbox.job import Job
from recipes.toolbox.small_nets import FULL

TEACHER = "mobilenet_v2"
# Untrained, SqueezeNet, MobileNetV2 and ShuffleNetV2 lose 1.6, 2.5 and 0.2 points there (1,000
# validation pictures; at 0.5: 0.8, 0.1 and nothing), which training is to bring back.
SVD = FactorizeSVD(macs=0.4)
EPOCHS = 8
RATE = 0.02


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    net = job.choose_net(FULL)
    title, spec = FULL[net]
    teacher = load_baseline(FULL[TEACHER].spec, TEACHER)
    task = cifar10_task(job, spec, teacher=teacher, precision=PRECISIONS.get(net, "float32"))
    dense = baseline(job, spec, net)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    learnt = [SVD, FineTune(job.epochs(EPOCHS), RATE)]
    thin = job.compress(dense, [*learnt, FoldBatchNorm()], task)
    int8 = job.compress(thin, [QuantizeInt8("mse")], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    deliver_narrower(job, net, task)
    job.deliver("svd", thin, ("onnx", "tflite"), task)
    job.deliver("svd-int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about(title, "CIFAR-10", "svd", max_drop=0.008))
