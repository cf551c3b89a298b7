"""LeNet-300-100 on MNIST by Deep Compression (Han, Mao and Dally 2016, table 2), then int8."""

from __future__ import annotations

from compress.models.lenet import lenet300_spec
from compress.stages.fine_tune import FineTune
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from recipes.datasets import mnist
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import picture_task

# The paper keeps 8, 9 and 26 % of the weights; sparsity is the rest.
SPARSITY = (("fc1", 0.92), ("fc2", 0.91), ("fc3", 0.74))
BITS = 5


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    spec = lenet300_spec()
    task = picture_task(job, spec, mnist(), "mnist", shift=2)
    dense = job.train(spec, [FineTune(job.epochs(20), 2e-3)], task)
    shared = job.compress(
        dense,
        [
            PruneMagnitude(SPARSITY),
            FineTune(job.epochs(20), 2e-3),
            ShareWeights(BITS),
            FineTune(job.epochs(4), 3e-4),
        ],
        task,
    )
    int8 = job.compress(shared, [QuantizeInt8()], task)
    job.deliver("fp32", dense, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite"), task)
    job.finish(job.about("LeNet-300-100", "MNIST", "deep-compression", max_drop=0.005))
