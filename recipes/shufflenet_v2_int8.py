"""Small ShuffleNetV2 on CIFAR-10 to int8, and beside it to weights shared in 5 bits.

    edgepress run shufflenet_v2_int8 --data DIR

DIR holds train.npz, val.npz and test.npz. Depthwise layers lose most by rounding, so one epoch of
fine-tuning follows inside the constraints.
"""

from __future__ import annotations

from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from recipes.toolbox.cifar import baseline, cifar10_task
from recipes.toolbox.job import Job

BITS = 5


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "tflite", "dc")
    spec = shufflenet_v2_spec(small=True)
    task = cifar10_task(job, spec)
    dense = baseline(job, spec, "shufflenet_v2")
    folded = job.compress(dense, [FoldBatchNorm()], task)
    shared = job.compress(
        dense, [ShareWeights(BITS), FineTune(job.epochs(1), 0.005), FoldBatchNorm()], task
    )
    int8 = job.compress(folded, [QuantizeInt8(), FineTune(job.epochs(1), 0.001)], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx", "onnx-packed"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    job.finish(job.about("ShuffleNetV2 small", "CIFAR-10", "int8", max_drop=0.01))
