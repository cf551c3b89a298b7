"""The net that stands in for a trained one, where a stage chooses by how well the net answers.

Pruned and not trained again, a net answers at random, and choices by its answers would be wrong.
The net as it was before, with the same zeros put in afterwards, gives them nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compress.candidate import Candidate
from compress.encoding import Encoded, Masked
from compress.stage import Stage, apply
from compress.task import Task


def applied(candidate: Candidate, stages: Sequence[Stage], task: Task) -> Candidate:
    """`candidate` after all of them."""
    for stage in stages:
        candidate = apply(candidate, stage, task)
    return candidate


def can_stand_in(sound: Candidate, damaged: Candidate) -> bool:
    """True where the two differ by zeros alone: codes that a stage found must stay."""
    zeros = all(isinstance(encoding, Masked) for encoding in damaged.encodings.values())
    return zeros and not damaged.activations and sound.edits == damaged.edits


def with_zeros(found: Candidate, damaged: Candidate) -> Candidate:
    """`found` with the zeros of `damaged` in its codes, and its masks where there are no codes."""
    values = damaged.network.parameters()
    encodings = {
        name: replace(encoding, indices=np.where(values[name] == 0, 0, encoding.indices))
        if isinstance(encoding, Encoded)
        else encoding
        for name, encoding in {**damaged.encodings, **found.encodings}.items()
    }
    return found.with_values({}, encodings)
