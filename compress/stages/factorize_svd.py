"""FactorizeSVD: a linear layer or convolution becomes two or three thin ones.

Denton et al. 2014 (arXiv:1404.0736), section 3, for linear and 1 x 1 layers; larger kernels by the
splits of split_layers.py. What an error costs is asked of the calibration pictures, as X. Zhang et
al. 2016 (arXiv:1505.06798) do, and of the answers (moments.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, Skipped
from compress.edit import Factorized
from compress.errors import RangeError
from compress.factoring.forms import product, weights_of
from compress.split_layers import SPLITS
from compress.stage import StageResult, refuse_encoded
from compress.stages.layers import check_pairs, check_patterns, choose, numbers, rebuilt
from compress.stages.rank_plan import Planned, RankPlan, Skip
from compress.stages.weighing import WEIGHINGS, Seen, Weigh, seen_layers
from compress.task import Task

_LIMITS = ("rank", "energy", "parameters", "macs", "bytes")


@dataclass(frozen=True)
class FactorizeSVD:
    """Factorize layers; exactly one of the five limits is given.

    rank: a fixed one, 1 and more (of a Tucker-2 for inputs and outputs alike). energy: the fewest
    weights that keep this fraction of what the error is measured by, in (0, 1]. parameters, macs,
    bytes: the net's, as a fraction in (0, 1) of what it has now, met by ranks that are chosen over
    all layers at once: of all nets within the budget the one of the least expected error. bytes are
    those of the float32 tensors in a file.

    split: "channel", "spatial" or "tucker" (split_layers.py) for kernels above 1 x 1; "auto": for
    each layer the best one, at a fixed rank "channel"; or (pattern, split) pairs, the first that
    fits. Linear and 1 x 1 layers have one way alone.
    weigh: "answers": by the expected divergence of the answers; "inputs": by the error of each
    layer's outputs, relative to them; both on task.calibration, around the mean, which the bias
    keeps; "weights": by the weight's own error, the bias untouched. None: "answers" where the task
    has calibration, else "weights".
    round_to: ranks are multiples of it. Layers of which the thin ones would not have fewer weights
    and fewer MACs stay as they are, unless `even_if_larger` (rank and energy only).
    """

    rank: int | None = None
    energy: float | None = None
    parameters: float | None = None
    macs: float | None = None
    bytes: float | None = None
    split: str | tuple[tuple[str, str], ...] = "auto"
    weigh: Weigh | None = None
    round_to: int = 1
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    even_if_larger: bool = False
    changes: ClassVar[Literal["structure", "values"]] = "structure"

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in _LIMITS if getattr(self, name) is not None}
        if len(given) != 1:
            raise RangeError(
                f"FactorizeSVD({', '.join(given) or 'no limit'}): give exactly one of "
                f"{', '.join(_LIMITS)}"
            )
        ((name, limit),) = given.items()
        if name == "rank" and (type(limit) is not int or limit < 1):
            raise RangeError(f"FactorizeSVD(rank={limit!r}): allowed are whole numbers from 1")
        if name != "rank":
            number = type(limit) in (int, float) and 0 < limit <= 1
            if not number or (limit == 1 and name != "energy"):
                upto = "up to 1" if name == "energy" else "below 1"
                raise RangeError(f"FactorizeSVD({name}={limit!r}): allowed is above 0, {upto}")
        if self.even_if_larger and name not in ("rank", "energy"):
            raise RangeError(f"FactorizeSVD({name}=..., even_if_larger=True): a budget forbids it")
        self._check_choices()
        check_patterns("FactorizeSVD", include=self.include, exclude=self.exclude)

    def _check_choices(self) -> None:
        if not isinstance(self.split, str):
            check_pairs("FactorizeSVD", "split", self.split)
        for split in numbers(self.split):
            if split not in ("auto", *SPLITS):
                allowed = ", ".join(map(repr, ("auto", *SPLITS)))
                raise RangeError(f"FactorizeSVD(split={split!r}): allowed are {allowed}")
        if self.weigh not in (None, *WEIGHINGS):
            allowed = ", ".join(map(repr, WEIGHINGS))
            raise RangeError(f"FactorizeSVD(weigh={self.weigh!r}): allowed are {allowed} and None")
        if type(self.round_to) is not int or self.round_to < 1:
            raise RangeError(
                f"FactorizeSVD(round_to={self.round_to!r}): allowed are whole numbers from 1"
            )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        refuse_encoded(self, candidate)
        layers, skipped = choose(candidate, self.include, self.exclude)
        plan = RankPlan(candidate, layers, self.split, self.round_to, self.even_if_larger)
        weigh = self.weigh or ("weights" if task.calibration is None else "answers")
        seen = seen_layers(candidate, plan.weighed(weigh), task, weigh, "FactorizeSVD")
        chosen = plan.choose(seen, self._limit())
        found = [done for done in chosen if isinstance(done, Planned)]
        skipped += [
            Skipped(done.layer.name, done.reason) for done in chosen if isinstance(done, Skip)
        ]
        if found:
            candidate = _factorized(candidate, found, seen)
        order = [layer.name for layer in layers]
        touched = sorted((done.layer.name for done in found), key=order.index)
        return StageResult(candidate, tuple(touched), tuple(skipped))

    def _limit(self) -> tuple[str, float]:
        name = next(name for name in _LIMITS if getattr(self, name) is not None)
        return name, getattr(self, name)


def _factorized(candidate: Candidate, chosen: Sequence[Planned], seen: Seen) -> Candidate:
    """The candidate with the chosen layers in their thin form."""
    state: dict[str, NDArray[np.generic]] = dict(candidate.network.state())
    edits: list[Factorized] = []
    for done in chosen:
        layer, form = done.layer, done.form
        weight = state.pop(layer.weight).astype(np.float64)
        thin = weights_of(weight, seen.measure(layer), form)
        for number, factor in enumerate(thin):
            state[f"{layer.name}.{number}.weight"] = factor
        last = f"{layer.name}.{len(thin) - 1}.bias"
        bias = None if layer.bias is None else state.pop(layer.bias)
        # At full rank there is nothing to make good, and the bias stays to the bit.
        means = None if done.lossless else seen.means(layer)
        added = bias is None and means is not None
        if means is not None:
            error = (weight - product(form, thin)).reshape(len(weight), -1)
            own = 0.0 if bias is None else bias.astype(np.float64)
            bias = (own + error @ means).astype(np.float32)
        if bias is not None:
            state[last] = bias
        edits.append(Factorized(layer.name, form.rank, form.split, form.rank_in, added))
    return rebuilt(candidate, edits, state, {})
