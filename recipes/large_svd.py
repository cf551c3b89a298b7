"""AlexNet or VGG-16 five times smaller by SVD: size, operations, time and memory of the files.

    edgepress run large_svd --net alexnet

The SVD row of table 2 of Iandola et al. 2016 (arXiv:1602.07360): 240 MB to 48 MB. The weights are
random, so accuracy is neither measured nor claimed; size, time and memory do not depend on their
values. Minutes for AlexNet; VGG-16 wants 8 GB of memory.
"""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate
from compress.models.alexnet import alexnet_spec
from compress.models.vgg import vgg16_spec
from compress.stages.factorize_svd import FactorizeSVD
from recipes.toolbox.job import Job
from recipes.toolbox.unlearnt import RANDOM_WEIGHTS, noise_task

NETS = {"alexnet": ("AlexNet", alexnet_spec()), "vgg16": ("VGG-16", vgg16_spec())}
# Random weights have no data that they fit, so the weights' own error is what counts.
SMALLER = FactorizeSVD(bytes=0.2, weigh="weights")


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite")
    title, spec = NETS[job.choose_net(NETS)]
    dense = Candidate.untrained(spec, job.seed)
    task = noise_task(job, dense)
    thin = job.compress(dense, [SMALLER], task)
    job.deliver("fp32", dense, ("onnx", "tflite"), task)
    job.deliver("svd", thin, ("onnx", "tflite"), task)
    about = job.about(title, "noise", "svd", max_drop=1.0)
    job.finish(replace(about, notes=(RANDOM_WEIGHTS,)))
