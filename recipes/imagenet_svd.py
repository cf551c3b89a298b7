"""SqueezeNet 1.1 or MobileNetV2 for ImageNet, given weights: operations against agreement by SVD.

    edgepress run imagenet_svd --net squeezenet --weights FILE --data DIR --test DIR

Weights and photographs as in imagenet_int8. Ranks are chosen over all layers at once to meet each
budget, once by what an error does to the answers on the photographs that calibrate, once by the
weights alone; both curves stand in the report, of the photographs that choose. Nothing is trained,
no labels. --test scores each file once.
"""

from __future__ import annotations

from dataclasses import replace

from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fold_batchnorm import FoldBatchNorm
from recipes.imagenet_int8 import NETS
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task
from recipes.toolbox.tradeoffs import Tradeoffs

BUDGETS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
DELIVERED = (0.8, 0.6)


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite")
    net = job.choose_net(NETS)
    title, load = NETS[net]
    dense = load(job.need_weights("the net's .safetensors or .pth file for ImageNet"))
    task = photo_task(job, dense)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    curves = Tradeoffs(folded)
    for macs in BUDGETS:
        plain = job.compress(folded, [FactorizeSVD(macs=macs, weigh="weights")], task)
        aware = job.compress(folded, [FactorizeSVD(macs=macs, weigh="answers")], task)
        curves.add("data-aware", aware)
        curves.add("plain", plain)
        if macs in DELIVERED:
            job.deliver(f"svd-{macs}-plain", plain, ("onnx",), task)
            job.deliver(f"svd-{macs}", aware, ("onnx", "tflite"), task)
    about = job.about(title, "photographs", "svd", max_drop=0.03)
    job.finish(replace(about, tradeoff=curves.found()))
