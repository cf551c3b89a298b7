"""Learning rates over a training: cosine, linear and one-cycle, with warm-up."""

from __future__ import annotations

import math
from typing import Literal

Rate = Literal["cosine", "linear", "one-cycle"]
RATES: tuple[Rate, ...] = ("cosine", "linear", "one-cycle")
# Smith and Topin begin at a tenth or less of the peak; fast.ai's and torch's default is 1/25.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_RISE = 0.3


def rate_factor(rate: Rate, done: float, warm_up: float = 0.0) -> float:
    """The fraction of the peak rate, in [0, 1], when `done` of the training, in [0, 1), is over.

    "cosine" (Loshchilov and Hutter 2017, arXiv:1608.03983) and "linear" fall from the peak to 0;
    "one-cycle" (Smith and Topin 2018, arXiv:1708.07120) rises from a 25th of the peak for 30 % of
    the training, then falls to 0, both along a cosine. `warm_up`, in [0, 1), is the fraction of
    the training in which the rate rises linearly from 0 first (Goyal et al. 2017,
    arXiv:1706.02677, section 2.2); the schedule takes the rest.
    """
    if done < warm_up:
        return done / warm_up
    left = (done - warm_up) / (1 - warm_up)
    if rate == "linear":
        return 1 - left
    if rate == "cosine":
        return _fall(left)
    if left < _ONE_CYCLE_RISE:
        risen = 1 - _fall(left / _ONE_CYCLE_RISE)
        return _ONE_CYCLE_START + (1 - _ONE_CYCLE_START) * risen
    return _fall((left - _ONE_CYCLE_RISE) / (1 - _ONE_CYCLE_RISE))


def _fall(part: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * part))
