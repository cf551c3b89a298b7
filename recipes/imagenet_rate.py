"""SqueezeNet 1.1 or MobileNetV2 for ImageNet, given weights: size against loss, without training.

    edgepress run imagenet_rate --net squeezenet --weights FILE --data DIR --test DIR

Weights and photographs as in imagenet_int8. Each price of a bit gives a container and a packed
.onnx; --test scores each once. Calibration takes no labels.
"""

from __future__ import annotations

from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.share_by_rate import ShareByRate
from recipes.imagenet_int8 import NETS
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task

# Nats of divergence a picture that one bit may save: at four times as much each weight has a bit
# less. SqueezeNet's go from 2 MB to 0.3 MB, MobileNetV2's from 2.5 to 1.6 MB; those about 0.6 and
# 1.8 MB were chosen on the photographs of --data, by agreement and divergence.
PRICES = {
    "squeezenet": (2e-13, 1e-11, 1e-9, 1e-8, 5.5e-8, 1.5e-7, 4e-7, 1e-6),
    "mobilenet_v2": (5e-10, 2.6e-9, 4.8e-9, 1e-8),
}


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "dc")
    net = job.choose_net(NETS)
    title, load = NETS[net]
    dense = load(job.need_weights("the net's .safetensors or .pth file for ImageNet"))
    task = photo_task(job, dense)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx",), task)
    for price in PRICES[net]:
        smaller = job.compress(folded, [ShareByRate(price)], task)
        job.deliver(f"rate-{price:.1e}", smaller, ("dc", "onnx-packed"), task)
    job.finish(job.about(title, "photographs", "rate-distortion", max_drop=0.01))
