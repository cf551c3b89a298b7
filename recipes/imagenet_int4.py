"""SqueezeNet 1.1 or MobileNetV2 for ImageNet, given weights, to int4 weights without training.

    edgepress run imagenet_int4 --net mobilenet_v2 --weights FILE --data DIR --test DIR

Weights and photographs as in imagenet_int8. Weights have 4 bits with a scale for each output
channel, activations 8: once rounded to the nearest level, once by AdaRound, and once by AdaRound
with 8 bits in the layers that see the picture first or one channel at a time.
"""

from __future__ import annotations

from compress.stages.adaround import AdaRound
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from recipes.imagenet_int8 import NETS
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task

# The layers that see the picture first or one channel at a time keep 8 bits: few weights in all.
MIXED = {
    "squeezenet": (("features.0", 8), ("*", 4)),
    "mobilenet_v2": (("features.0.*", 8), ("depthwise", 8), ("*", 4)),
}


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc", "onnx-packed")
    net = job.choose_net(NETS)
    title, load = NETS[net]
    dense = load(job.need_weights("the net's .safetensors or .pth file for ImageNet"))
    task = photo_task(job, dense)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    plain = job.compress(folded, [QuantizeInt8("mse", weight_bits=4)], task)
    int4 = job.compress(folded, [AdaRound(4, fit_bias=True), QuantizeInt8("mse")], task)
    mixed = job.compress(folded, [AdaRound(MIXED[net], fit_bias=True), QuantizeInt8("mse")], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("int4", plain, ("onnx", "tflite", "dc"), task)
    job.deliver("int4-adaround", int4, ("onnx", "tflite", "dc", "onnx-packed"), task)
    job.deliver("int4-int8-adaround", mixed, ("onnx", "tflite", "dc", "onnx-packed"), task)
    job.finish(job.about(title, "photographs", "int4", max_drop=0.03))
