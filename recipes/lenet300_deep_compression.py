"""LeNet-300-100 on MNIST, beyond table 2 of Deep Compression (Han, Mao and Dally 2016).

Pruned and trained in turn, shared on levels that are worth their bits; then int8.
"""

from __future__ import annotations

from compress.models.lenet import lenet300_spec
from compress.stages.fine_tune import FineTune
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.schedules import in_rounds
from compress.stages.share_by_rate import ShareByRate
from recipes.datasets import mnist
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import picture_task

# The paper keeps 8, 9 and 26 % of the weights, in 64 levels. Chosen on the validation images.
SPARSITY = 0.95
# Nats of divergence a picture that one bit may save.
PRICE = 1e-7


def main(job: Job) -> None:
    job.need_formats("onnx", "onnx-packed", "tflite", "dc")
    spec = lenet300_spec()
    task = picture_task(job, spec, mnist(), "mnist", shift=2)
    dense = job.train(spec, [FineTune(job.epochs(20), 2e-3)], task)
    pruned = (
        *in_rounds(PruneMagnitude(SPARSITY, scope="lamp"), FineTune(1, 3e-3), 10, "cubic"),
        FineTune(job.epochs(20), 3e-3),
    )
    shared = job.compress(dense, [*pruned, ShareByRate(PRICE)], task)
    int8 = job.compress(shared, [QuantizeInt8()], task)
    job.deliver("fp32", dense, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx-packed"), task)
    job.deliver("int8", int8, ("onnx", "tflite"), task)
    job.finish(job.about("LeNet-300-100", "MNIST", "deep-compression", max_drop=0.005))
