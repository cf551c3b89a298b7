"""Sizes, shares and ratios as people write them on the command line: '1.5MB', '1%', '1.1'.

Errors are argparse's, which puts the option's name before them. Imports nothing slow.
"""

from __future__ import annotations

import argparse
import re
from decimal import Decimal

# As on a disk's label and in targets.units: 1 KB = 1000; the units with i count in 1024.
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
# Nine digits before the point and nine behind it: a text of a million digits costs nothing.
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_SIZE = re.compile(_NUMBER + r"\s*([a-z]{0,3})", re.IGNORECASE)
_SHARE = re.compile(_NUMBER + r"\s*(%?)")
_RATIO = re.compile(_NUMBER)
_MOST_BYTES = 10**15
_MOST_RATIO = 1000
_SHOWN = 40


def parse_bytes(text: str) -> int:
    """'1.5MB' -> 1,500,000: a number and B, KB, MB, GB, KiB, MiB or GiB, or bytes without a unit.

    Part of a byte is cut off. ArgumentTypeError for anything else, and below 1 or above 10^15.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise argparse.ArgumentTypeError(
            f"{text[:_SHOWN]!r} is no size; write a number with B, KB, MB, GB, KiB, MiB or GiB, "
            f"as 1.5MB"
        )
    count = int(Decimal(found[1]) * unit)
    if not 1 <= count <= _MOST_BYTES:
        raise argparse.ArgumentTypeError(
            f"{text[:_SHOWN]!r} is {count:,} bytes; from 1 to {_MOST_BYTES:,} are allowed"
        )
    return count


def parse_share(text: str) -> float:
    """'1%' or '0.01' -> 0.01: a share in [0, 1].

    A plain 1 is refused, since it could mean all or one percent. ArgumentTypeError for that, for
    what is no number and above 100 %.
    """
    found = _SHARE.fullmatch(text.strip())
    value = Decimal(found[1]) if found else Decimal(-1)
    if found is None:
        allowed = "a share: write 1% or 0.01"
    elif found[2] and value > 100:
        allowed = "a share: from 0% to 100% are allowed"
    elif not found[2] and value >= 1:
        allowed = f"clear: write {found[1]}% for percent, or a fraction below 1"
    else:
        return float(value / 100 if found[2] else value)
    raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} is not {allowed}")


def parse_ratio(text: str) -> float:
    """'1.1' -> 1.1: above 0, at most 1000; ArgumentTypeError for anything else."""
    found = _RATIO.fullmatch(text.strip())
    if found is None or not 0 < Decimal(found[1]) <= _MOST_RATIO:
        raise argparse.ArgumentTypeError(
            f"{text[:_SHOWN]!r} is no ratio; write a number above 0, at most {_MOST_RATIO}, as 1.1"
        )
    return float(found[1])
