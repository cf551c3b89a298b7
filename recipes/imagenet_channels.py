"""SqueezeNet 1.1 or MobileNetV2 for ImageNet, given weights, with 40 % fewer operations.

    edgepress run imagenet_channels --net squeezenet --weights FILE --data DIR --test DIR

Weights and photographs as in imagenet_int8. Channels go, the layers that are left are fitted to
what they gave before, and the net learns the whole one's answers on the photographs that
calibrate: no labels. Five hundred photographs are far too few to teach it all again; what the
recipe shows is how much faster the files are for it. An hour, most of it learning.
"""

from __future__ import annotations

from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_channels import PruneChannels
from recipes.imagenet_int8 import NETS
from recipes.toolbox.job import Job
from recipes.toolbox.photos import photo_task

# onnxruntime computes float channels by sixteens: cut by eights, MobileNetV2 has the operations of
# 0.6 and takes 0.72 of the time, by sixteens 0.60. Untaught, it agrees with itself on 22.0 and
# 22.2 % of the photographs of --data, SqueezeNet on 43.2 and 46.2 % (by thirty-twos 39.8 %).
CUT = PruneChannels(macs=0.6, round_to=16)
EPOCHS = 20
RATE = 2e-4


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite")
    net = job.choose_net(NETS)
    title, load = NETS[net]
    dense = load(job.need_weights("the net's .safetensors or .pth file for ImageNet"))
    task = photo_task(job, dense, batch_size=32, flip=True, crop=0.7)
    folded = job.compress(dense, [FoldBatchNorm()], task)
    cut = job.compress(folded, [CUT], task)
    taught = job.compress(cut, [FineTune(job.epochs(EPOCHS), RATE)], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("channels-repaired", cut, ("onnx", "tflite"), task)
    job.deliver("channels", taught, ("onnx", "tflite"), task)
    job.finish(job.about(title, "photographs", "channels", max_drop=0.03))
