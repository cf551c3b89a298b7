"""Small SqueezeNet 1.1, MobileNetV2 or ShuffleNetV2 for CIFAR-10, trained from nothing.

    edgepress run train_cifar10 --net mobilenet_v2 --data DIR

DIR holds train.npz, val.npz and test.npz (x uint8 N x 32 x 32 x 3, y int64). Writes, beside the
fp32 files, NET-cifar10.safetensors: the weights in half precision, which are the ones scored, and
which are in recipes/weights/. One to one and a half hours a net.
"""

from __future__ import annotations

from compress.candidate import Candidate
from compress.checkpoint import save_half
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from recipes.datasets import npz
from recipes.toolbox.cifar import DATA
from recipes.toolbox.job import Job
from recipes.toolbox.tasks import picture_task

NETS = {
    "squeezenet": ("SqueezeNet 1.1 small", squeezenet1_1_spec(small=True)),
    "mobilenet_v2": ("MobileNetV2 small", mobilenet_v2_spec(small=True)),
    "shufflenet_v2": ("ShuffleNetV2 small", shufflenet_v2_spec(small=True)),
}
EPOCHS = 30
PEAK = 0.1


def main(job: Job) -> None:
    job.need_formats("onnx", "tflite")
    title, spec = NETS[job.choose_net(NETS)]
    data = npz(job.need_data(DATA))
    task = picture_task(
        job,
        spec,
        data,
        "cifar10",
        optimizer="sgd",
        rate="one-cycle",
        weight_decay=5e-4,
        label_smoothing=0.1,
        shift=4,
        flip=True,
        channels_last=True,
    )
    trained = job.train(spec, [FineTune(job.epochs(EPOCHS), PEAK)], task)
    weights = job.folder / f"{job.net}-cifar10.safetensors"
    save_half(trained, weights)
    folded = job.compress(Candidate.load(spec, weights), [FoldBatchNorm()], task)
    job.deliver("fp32", folded, ("onnx", "tflite"), task)
    job.finish(job.about(title, "CIFAR-10", "training", max_drop=0.0))
