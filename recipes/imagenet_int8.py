"""SqueezeNet 1.1 or MobileNetV2 for ImageNet, given weights, to int8 without training.

    edgepress run imagenet_int8 --net squeezenet --weights FILE --data DIR --test DIR

Weights: those of the authors of SqueezeNet by Caffe's names, or torchvision's of MobileNetV2. The
photographs in --data need no labels: every second one calibrates, the others compare the answers
with the fp32 net's. Those in --test are labelled, and only score the finished files.
"""

from __future__ import annotations

from pathlib import Path

from compress.candidate import Candidate
from compress.checkpoint import read_weights
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.squeezenet_caffe import from_caffe, squeezenet1_1_caffe_spec
from compress.stages.correct_bias import CorrectBias
from compress.stages.distill import Distill
from compress.stages.equalize_ranges import EqualizeRanges
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task


def squeezenet(weights: Path) -> Candidate:
    return Candidate.load(squeezenet1_1_caffe_spec(), from_caffe(read_weights(weights)))


def mobilenet_v2(weights: Path) -> Candidate:
    return Candidate.load(mobilenet_v2_spec(), weights)


NETS = {"squeezenet": ("SqueezeNet 1.1", squeezenet), "mobilenet_v2": ("MobileNetV2", mobilenet_v2)}

# Chosen on the photographs of --data by the divergence from fp32's answers. MobileNetV2: 0.021 as
# SqueezeNet's, 0.014 with its first two layers, whose few channels are as fast in float, left so,
# 0.011 distilled too. Distilling does not help SqueezeNet (0.0055 -> 0.0060).
FIRST = ("features.0.0", "features.1.conv.0.0")
INT8 = {
    "squeezenet": (EqualizeRanges("loss"), CorrectBias(QuantizeInt8("mse"))),
    "mobilenet_v2": (
        EqualizeRanges("loss"),
        Distill(CorrectBias(QuantizeInt8("mse", keep_float=FIRST)), steps=200),
    ),
}


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    net = job.choose_net(NETS)
    title, load = NETS[net]
    dense = load(job.need_weights("the net's .safetensors or .pth file for ImageNet"))
    task = photo_task(job, dense)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    int8 = job.compress(folded, INT8[net], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about(title, "photographs", "int8", max_drop=0.01))
