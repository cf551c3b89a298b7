"""LeNet-5 on MNIST by Deep Compression (Han, Mao and Dally 2016, table 3), then int8.

Trained here, pruned, weights shared, Huffman-coded; every file scored and timed. Needs no data
but the MNIST in this package.
"""

from __future__ import annotations

from compress.models.lenet import lenet5_spec
from compress.stages.fine_tune import FineTune
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from recipes.datasets import mnist
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import picture_task

# The paper keeps 66, 12, 8 and 19 % of the weights; chosen here on the validation images.
SPARSITY = (("conv1", 0.34), ("conv2", 0.85), ("fc1", 0.94), ("fc2", 0.81))
BITS = (("conv*", 6), ("fc*", 4))


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite", "dc")
    spec = lenet5_spec()
    task = picture_task(job, spec, mnist(), "mnist", shift=2)
    dense = job.train(spec, [FineTune(job.epochs(6), 2e-3)], task)
    shared = job.compress(
        dense,
        [
            PruneMagnitude(SPARSITY),
            FineTune(job.epochs(5), 1e-3),
            ShareWeights(BITS),
            FineTune(job.epochs(2), 3e-4),
        ],
        task,
    )
    int8 = job.compress(shared, [QuantizeInt8()], task)
    job.deliver("fp32", dense, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx", "tflite"), task)
    job.deliver("int8", int8, ("onnx", "tflite"), task)
    job.finish(job.about("LeNet-5", "MNIST", "deep-compression", max_drop=0.005))
