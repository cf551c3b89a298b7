"""Pruning in rounds: how sparsity rises, and stages that prune and train in turn.

Han et al. 2015 (arXiv:1506.02626), section 3.4: pruning and retraining in turn reaches a sparsity
that one step to it does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from compress.errors import RangeError

if TYPE_CHECKING:
    from compress.stage import Stage
    from compress.stages.fine_tune import FineTune
    from compress.stages.prune_magnitude import PruneMagnitude

Pace = Literal["geometric", "cubic", "linear"]
Sparsity = float | tuple[tuple[str, float], ...]
# Six decimals tell one weight in a million; a repr of sixteen is not readable.
_DECIMALS = 6


def in_rounds(
    prune: PruneMagnitude, train: FineTune, rounds: int, pace: Pace = "geometric"
) -> tuple[Stage, ...]:
    """`rounds` times a PruneMagnitude and a FineTune, the last at the sparsity of `prune`.

    Each round is two stages with checkpoints of their own. pace: see `paced`.

    >>> run(candidate, [*in_rounds(PruneMagnitude(0.98), FineTune(2, 1e-3), 8)], task)
    """
    if type(rounds) is not int or rounds < 1:
        raise RangeError(f"in_rounds(rounds={rounds!r}): allowed are whole numbers from 1")
    stages: list[Stage] = []
    for done in range(1, rounds + 1):
        sparsity = paced(prune.sparsity, done / rounds, pace)
        stages += [replace(prune, sparsity=sparsity), train]
    return tuple(stages)


def paced(sparsity: Sparsity, done: float, pace: Pace) -> Sparsity:
    """The sparsity, or each of the (pattern, sparsity) pairs, when `done` in (0, 1] is over.

    "geometric": each round takes the same fraction of the weights that are left (Han et al. 2015);
    "cubic": sparsity * (1 - (1 - done)**3), Zhu and Gupta 2017, eq. 1, from 0; "linear".
    """
    if isinstance(sparsity, tuple):
        return tuple((pattern, _paced(value, done, pace)) for pattern, value in sparsity)
    return _paced(sparsity, done, pace)


def _paced(final: float, done: float, pace: Pace) -> float:
    if done >= 1:
        return final
    if pace == "geometric":
        return round(1 - (1 - final) ** done, _DECIMALS)
    if pace == "cubic":
        return round(final * (1 - (1 - done) ** 3), _DECIMALS)
    if pace == "linear":
        return round(final * done, _DECIMALS)
    raise RangeError(f"pace={pace!r}: allowed are 'geometric', 'cubic', 'linear'")
