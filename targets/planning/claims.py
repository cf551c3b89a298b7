"""A verdict and the claims that it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Answer = Literal["yes", "no", "worse", "perhaps", "not run"]
Claim = tuple[Answer, str]
_FIRST: tuple[Answer, ...] = ("yes", "worse", "no")


@dataclass(frozen=True)
class Verdict:
    """answer: "worse" is the reverse of what was asked; "perhaps" claims nothing."""

    answer: Answer
    reason: str

    @property
    def gains(self) -> bool | None:
        """What a measurement can confirm: a gain, or none; None where nothing is claimed."""
        return {"yes": True, "no": False, "worse": False}.get(self.answer)


def joined(claims: Iterable[Claim]) -> Verdict:
    """One verdict of several changes at once: a gain beside a loss is open.

    A change that gains nothing takes nothing from one that gains.
    """
    found = list(claims)
    answers = {answer for answer, _ in found}
    answer: Answer = "no"
    supporting: tuple[Answer, ...] = ("no",)
    if {"yes", "worse"} <= answers or "perhaps" in answers:
        answer, supporting = "perhaps", ("yes", "worse", "perhaps")
    else:
        for given in _FIRST:
            if given in answers:
                answer, supporting = given, (given,)
                break
    reasons = [reason for a, reason in found if a in supporting]
    return Verdict(answer, "; ".join(dict.fromkeys(reasons)) or "nothing of it changed")
