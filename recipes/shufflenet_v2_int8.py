"""Small ShuffleNetV2 on CIFAR-10 to int8, and to weights shared in 5 bits, without training.

    edgepress run shufflenet_v2_int8 --data DIR

DIR holds train.npz, val.npz and test.npz. Depthwise layers keep 8 bits: they are few weights, and
the ones that lose most by sharing.
"""

from __future__ import annotations

from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from recipes.toolbox.cifar import baseline, cifar10_task, deliver_narrower
from recipes.toolbox.job import Job

BITS = (("depthwise", 8), ("*", 5))


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "tflite", "dc")
    spec = shufflenet_v2_spec(small=True)
    task = cifar10_task(job, spec)
    dense = baseline(job, spec, "shufflenet_v2")
    folded = job.compress(dense, [FoldBatchNorm()], task)
    shared = job.compress(folded, [ShareWeights(BITS)], task)
    int8 = job.compress(folded, [QuantizeInt8()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx", "onnx-packed"), task)
    job.deliver("int8", int8, ("onnx", "tflite", "dc"), task)
    deliver_narrower(job, "shufflenet_v2", task)
    job.finish(job.about("ShuffleNetV2 small", "CIFAR-10", "int8", max_drop=0.01))
