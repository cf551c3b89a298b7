"""Channels removed without training: ours against torch-pruning's criteria, at equal MACs.

    python tests/benchmarks/channel_tools.py NET --weights FILE --data PATH [--fractions 0.8 0.7]

NET: mobilenet_v2 or squeezenet (ImageNet, PATH pictures without labels: odd ones calibrate, even
ones judge), or cifar-NET (PATH a folder with train.npz and val.npz). Judged: agreement with the
uncut net's answers, their divergence in nats, and top-1 where there are labels. torch-pruning's
nets are judged as they are and with batch norms estimated anew; its pruning ratio is searched for
the same MACs. Seconds: from the loaded net to the pruned one.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT))

from compress.candidate import Candidate  # noqa: E402
from compress.checkpoint import read_weights  # noqa: E402
from compress.divergence import divergences  # noqa: E402
from compress.measure import count  # noqa: E402
from compress.models import resnet_cifar  # noqa: E402
from compress.models.mobilenet_v2 import mobilenet_v2_spec  # noqa: E402
from compress.models.shufflenet_v2 import shufflenet_v2_spec  # noqa: E402
from compress.models.squeezenet import squeezenet1_1_spec  # noqa: E402
from compress.models.squeezenet_caffe import from_caffe, squeezenet1_1_caffe_spec  # noqa: E402
from compress.moments import pull  # noqa: E402
from compress.stages.prune_channels import PruneChannels  # noqa: E402
from compress.task import Batch, Task  # noqa: E402

SMALL = {
    "squeezenet": lambda: squeezenet1_1_spec(small=True),
    "mobilenet_v2": lambda: mobilenet_v2_spec(small=True),
    "shufflenet_v2": lambda: shufflenet_v2_spec(small=True),
    "resnet20": resnet_cifar.resnet20_spec,
    "resnet56": resnet_cifar.resnet56_spec,
}


@dataclass(frozen=True, eq=False)
class Setting:
    """A net, calibration batches, and what judges: batches and their labels (None: unknown)."""

    candidate: Candidate
    calibration: list[Batch]
    judging: list[Batch]
    labels: np.ndarray | None

    def judge(self, predict: Callable[[Batch], np.ndarray]) -> str:
        own = np.concatenate([self.candidate.predict(batch) for batch in self.judging])
        theirs = np.concatenate([predict(batch) for batch in self.judging])
        same = float((own.argmax(1) == theirs.argmax(1)).mean())
        text = f"agreement {same:.3f}  kl {divergences(own, theirs).mean():7.4f}"
        if self.labels is not None:
            text += f"  top1 {(theirs.argmax(1) == self.labels).mean():.3f}"
        return text


def setting(net: str, weights: Path, data: Path, pictures: int) -> Setting:
    if net.startswith("cifar-"):
        candidate = Candidate.load(SMALL[net.removeprefix("cifar-")](), weights)
        splits = [np.load(data / f"{name}.npz") for name in ("train", "val")]
        shown = [list(batches(candidate, split["x"][:pictures])) for split in splits]
        return Setting(candidate, *shown, splits[1]["y"][:pictures])
    from recipes.pictures.opening import open_pictures
    from recipes.pictures.preparing import Prepared
    from recipes.pictures.sources import Chosen

    if net == "squeezenet":
        candidate = Candidate.load(squeezenet1_1_caffe_spec(), from_caffe(read_weights(weights)))
    else:
        candidate = Candidate.load(mobilenet_v2_spec(), weights)
    found = open_pictures(data, candidate.spec.classes)
    *_, height, width = candidate.spec.input_shape
    halves: list[list[Batch]] = []
    for first in (0, 1):
        chosen = Chosen(found, range(first, min(len(found), 2 * pictures), 2))
        pixels = Prepared(chosen, candidate.spec.preprocess, (height, width))
        halves.append(list(batches(candidate, pixels[: len(pixels)])))
    return Setting(candidate, *halves, None)


def batches(candidate: Candidate, pixels: np.ndarray) -> Iterator[Batch]:
    for start in range(0, len(pixels), 25):
        yield candidate.spec.preprocess.normalise(pixels[start : start + 25])


def ours(at: Setting, fraction: float) -> tuple[nn.Module, float]:
    task = Task(evaluate=lambda _: {}, fingerprint="", calibration=lambda: at.calibration)
    start = time.perf_counter()
    done = PruneChannels(macs=fraction)(at.candidate, task).candidate
    return done.network.module(), time.perf_counter() - start


def theirs(at: Setting, name: str, whole: bool, fraction: float) -> tuple[nn.Module, float]:
    """torch-pruning's net of the least pruning ratio that meets the MACs."""
    start = time.perf_counter()
    low, high, best = 0.0, 0.95, at.candidate.network.module()
    budget = fraction * count(at.candidate.spec, best).macs
    for _ in range(7):
        ratio = (low + high) / 2
        found = pruned(at, name, whole, ratio)
        if count(at.candidate.spec, found).macs <= budget:
            high, best = ratio, found
        else:
            low = ratio
    return best, time.perf_counter() - start


def pruned(at: Setting, name: str, whole: bool, ratio: float) -> nn.Module:
    import torch_pruning as tp

    model = at.candidate.network.module().requires_grad_(True)
    if name == "taylor":
        generator = torch.Generator().manual_seed(0)
        for batch in at.calibration[:4]:
            pull(model(torch.from_numpy(batch)), generator)
    importance = {
        "l1": lambda: tp.importance.MagnitudeImportance(p=1),
        "l2": lambda: tp.importance.MagnitudeImportance(p=2),
        "fpgm": tp.importance.FPGMImportance,
        "bn": tp.importance.BNScaleImportance,
        "taylor": tp.importance.TaylorImportance,
    }[name]()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    ignored = list(layers.values())[-1:]
    if "layer1.0.conv1" in layers:  # it cannot cut the zero-padded shortcuts of a CIFAR ResNet
        ignored += [m for n, m in layers.items() if n == "conv1" or n.endswith(".conv2")]
    example = torch.zeros(at.candidate.network.input_shape)
    options = {"global_pruning": whole, "pruning_ratio": ratio, "ignored_layers": ignored}
    tp.pruner.BasePruner(model, example, importance, **options).step()
    return model.requires_grad_(False).eval()


def renewed(at: Setting, model: nn.Module) -> nn.Module:
    """Its batch norms' statistics over the calibration pictures."""
    model = copy.deepcopy(model)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in at.calibration:
            model(torch.from_numpy(batch))
    return model.eval()


def predictor(model: nn.Module) -> Callable[[Batch], np.ndarray]:
    def predict(batch: Batch) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch)).numpy()

    return predict


def row(at: Setting, title: str, made: tuple[nn.Module, float]) -> None:
    model, seconds = made
    share = (
        count(at.candidate.spec, model).macs
        / count(at.candidate.spec, at.candidate.network.module()).macs
    )
    plain = at.judge(predictor(model))
    print(f"  {title:22} {share:.3f} of the MACs  {plain}  {seconds:6.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.8, 0.7, 0.6])
    parser.add_argument("--criteria", nargs="+", default=["l1", "l2", "fpgm", "bn", "taylor"])
    parser.add_argument("--pictures", type=int, default=256, help="to calibrate, and to judge")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    at = setting(given.net, given.weights, given.data, given.pictures)
    print(f"{given.net}: uncut {at.judge(at.candidate.predict)}")
    has_norms = any(isinstance(m, nn.BatchNorm2d) for m in at.candidate.network.module().modules())
    for fraction in given.fractions:
        print(f"at {fraction:g}:")
        row(at, "ours", ours(at, fraction))
        for name in given.criteria:
            if name == "bn" and not has_norms:
                continue
            for whole in (True, False):
                scope = "global" if whole else "uniform"
                try:
                    made = theirs(at, name, whole, fraction)
                except (ZeroDivisionError, IndexError) as error:
                    print(f"  {name} {scope}: torch-pruning fails: {type(error).__name__}")
                    continue
                row(at, f"{name}, {scope}", made)
                if has_norms:
                    row(at, f"{name}, {scope}, bn anew", (renewed(at, made[0]), made[1]))


if __name__ == "__main__":
    main()
