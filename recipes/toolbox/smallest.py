"""The chain of the recipes that make a net as small as it gets with some epochs of training."""

from __future__ import annotations

from typing import NamedTuple

from compress.candidate import Candidate
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_gradually import PruneGradually
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_by_rate import ShareByRate
from compress.task import Task
from recipes.toolbox.job import Job

FORMATS = ("onnx", "onnx-packed", "tflite", "tflite-packed", "dc")


class Plan(NamedTuple):
    """rounds: in how many steps, one an epoch, the sparsity is reached; rate: of learning.

    price: nats of divergence a picture that one bit may save.
    """

    sparsity: float
    epochs: int
    rounds: int
    rate: float
    price: float


def smallest(job: Job, net: Candidate, task: Task, plan: Plan) -> Candidate:
    """`net` pruned while it learns, folded, on the levels of the plan's price."""
    epochs = job.epochs(plan.epochs)
    pruned = PruneGradually(
        PruneMagnitude(plan.sparsity, scope="lamp"),
        FineTune(epochs, plan.rate),
        min(plan.rounds, epochs),
    )
    return job.compress(net, [pruned, FoldBatchNorm(), ShareByRate(plan.price)], task)


def deliver_smallest(job: Job, dense: Candidate, task: Task, plan: Plan) -> None:
    """Deliver `dense`; pruned while it learns and on the levels of `price`; and that as int8."""
    folded = job.compress(dense, [FoldBatchNorm()], task)
    shared = smallest(job, dense, task, plan)
    int8 = job.compress(shared, [QuantizeInt8()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.deliver("shared", shared, ("dc", "onnx-packed", "tflite-packed"), task)
    job.deliver("int8", int8, ("onnx", "onnx-packed", "tflite", "dc"), task)
