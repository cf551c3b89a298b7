"""The three small nets for CIFAR-10 with 40 % fewer operations; then int8, and Deep Compression.

    edgepress run cifar10_channels --net squeezenet --data DIR

DIR holds train.npz, val.npz and test.npz. Whole channels go and the net learns again, the small
MobileNetV2 answering beside the labels; what is left becomes int8, or is pruned while it learns
and shared on levels by rate. Half an hour to an hour a net.
"""

from __future__ import annotations

from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_channels import PruneChannels
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
from recipes.toolbox.smallest import Plan, smallest

TEACHER = "mobilenet_v2"
MACS = 0.6
# As onnxruntime's kernels want: with any number of channels MobileNetV2 takes 1.5 times as long
# there as whole, by eights 0.6; SqueezeNet 0.86 and 0.71, ShuffleNetV2 0.79 and 0.73 (untrained).
ROUND_TO = {"squeezenet": 8, "mobilenet_v2": 8, "shufflenet_v2": 1}
EPOCHS = 12
RATE = 0.02
# As in cifar10_deep_compression; fewer zeros, since the channels that meant least are gone.
PLANS = {
    "squeezenet": Plan(sparsity=0.75, epochs=10, rounds=7, rate=0.05, price=4e-8),
    "mobilenet_v2": Plan(sparsity=0.8, epochs=6, rounds=4, rate=0.05, price=2.5e-9),
    "shufflenet_v2": Plan(sparsity=0.8, epochs=8, rounds=5, rate=0.05, price=2.5e-8),
}


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "tflite", "tflite-packed", "dc")
    net = job.choose_net(FULL)
    title, spec = FULL[net]
    teacher = load_baseline(FULL[TEACHER].spec, TEACHER)
    task = cifar10_task(job, spec, teacher=teacher, precision=PRECISIONS.get(net, "float32"))
    dense = baseline(job, spec, net)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    cut = PruneChannels(macs=MACS, round_to=ROUND_TO[net])
    thin = job.compress(dense, [cut, FineTune(job.epochs(EPOCHS), RATE)], task)
    channels = job.compress(thin, [FoldBatchNorm()], task)
    int8 = job.compress(channels, [QuantizeInt8("mse")], task)
    shared = smallest(job, thin, task, PLANS[net])
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    deliver_narrower(job, net, task)
    job.deliver("channels", channels, ("onnx", "tflite"), task)
    job.deliver("channels-int8", int8, ("onnx", "tflite", "dc"), task)
    job.deliver("channels-shared", shared, ("dc", "onnx-packed", "tflite-packed"), task)
    job.finish(job.about(title, "CIFAR-10", "channels", max_drop=0.008))
