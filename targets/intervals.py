"""How far a count of pictures can be trusted: intervals and tests for two nets on the same ones.

A share alone has `units.wilson`. Two nets that saw the same pictures are paired: only the pictures
on which exactly one of them is right tell anything of the difference.
"""

from __future__ import annotations

import math

_Z = 1.959964
"""The normal distribution's 97.5 % point: intervals of 95 %."""


def paired_difference(lost: int, won: int, samples: int, z: float = _Z) -> tuple[float, float]:
    """95 % interval of (lost - won) / samples, in [-1, 1].

    `lost`: pictures that only the first net has right; `won`: only the second. Half a picture is
    added to each of the four cells (Agresti and Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24, 2005, section 2).
    """
    assert min(lost, won) >= 0 and 0 < samples >= lost + won
    size = samples + 2
    difference = (lost - won) / size
    half = z * math.sqrt((lost + won + 1) - (lost - won) ** 2 / size) / size
    return max(-1.0, difference - half), min(1.0, difference + half)


def mcnemar(lost: int, won: int) -> float:
    """Exact two-sided p of so uneven a split of `lost + won` pictures, were both nets as good.

    The binomial form of McNemar (Psychometrika 12, 1947). 1 where nothing differs.
    """
    assert lost >= 0 and won >= 0
    total, fewer = lost + won, min(lost, won)
    # In logarithms: 2 ** total leaves the floats at 1,024 pictures.
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        for k in range(fewer + 1)
    ]
    tail = math.fsum(math.exp(log - total * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)
