"""Small SqueezeNet 1.1 on CIFAR-10 by Deep Compression (Han, Mao and Dally 2016), then int8.

    edgepress run squeezenet_deep_compression --data DIR

DIR holds train.npz, val.npz and test.npz. Pruned, fine-tuned, weights shared in 5 bits, fine-tuned,
Huffman-coded, as the authors of SqueezeNet did it (arXiv:1602.07360, section 4).
"""

from __future__ import annotations

from compress.models.squeezenet import squeezenet1_1_spec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from recipes.toolbox.cifar import baseline, cifar10_task
from recipes.toolbox.job import Job

SPARSITY = 0.67
BITS = 5


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "tflite", "dc")
    spec = squeezenet1_1_spec(small=True)
    task = cifar10_task(job, spec)
    dense = baseline(job, spec, "squeezenet")
    folded = job.compress(dense, [FoldBatchNorm()], task)
    shared = job.compress(
        dense,
        [
            PruneMagnitude(SPARSITY),
            FineTune(job.epochs(3), 0.02),
            ShareWeights(BITS),
            FineTune(job.epochs(1), 0.002),
            FoldBatchNorm(),
        ],
        task,
    )
    int8 = job.compress(shared, [QuantizeInt8()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx", "onnx-packed"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about("SqueezeNet 1.1 small", "CIFAR-10", "deep-compression", max_drop=0.01))
