"""A net in the forms that devices get: fp32, int8 and packed, as .onnx and .tflite.

    edgepress run device_forms --net squeezenet --weights FILE --data DIR --test DIR \
        --target local+webgpu --target qemu:cortex-a53 --target ssh:user@board --threads 1,2

SqueezeNet 1.1 and MobileNetV2 for ImageNet with weights and photographs as in imagenet_int8, or
the small ShuffleNetV2 (--net shufflenet_v2) with --data for CIFAR-10 alone. No training; the files
are what is measured. Minutes on this machine, and as much again for each emulated one.
"""

from __future__ import annotations

from compress.candidate import Candidate
from compress.stages.equalize_ranges import EqualizeRanges
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_by_rate import ShareByRate
from compress.task import Task
from recipes import imagenet_int8
from recipes.toolbox.cifar import baseline, cifar10_task
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task
from recipes.toolbox.small_nets import FULL

SMALL = "shufflenet_v2"
# Nats of divergence a picture that a bit may save, as chosen in imagenet_rate.
PRICES = {"squeezenet": 5.5e-8, "mobilenet_v2": 4.8e-9, SMALL: 5e-9}


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "tflite", "tflite-packed")
    net = job.choose_net(PRICES)
    title, dataset, dense, task = _small(job) if net == SMALL else _large(job, net)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    int8 = job.compress(folded, [EqualizeRanges("loss"), QuantizeInt8("mse")], task)
    packed = job.compress(folded, [ShareByRate(PRICES[net])], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite"), task)
    job.deliver("packed", packed, ("onnx-packed", "tflite-packed"), task)
    job.finish(job.about(title, dataset, "forms", max_drop=0.01))


def _large(job: Job, net: str) -> tuple[str, str, Candidate, Task]:
    title, load = imagenet_int8.NETS[net]
    dense = load(job.need_weights("the net's .safetensors or .pth file for ImageNet"))
    return title, "photographs", dense, photo_task(job, dense)


def _small(job: Job) -> tuple[str, str, Candidate, Task]:
    title, spec = FULL[SMALL]
    return title, "CIFAR-10", baseline(job, spec, SMALL), cifar10_task(job, spec)
