"""Nets with three tenths of their channels gone, made once for all tests: tracing is what costs."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from compress.candidate import Candidate
from compress.pruning.coupled import Numbers
from compress.pruning.planning import best_kept, planned
from compress.pruning.removal import remove
from compress.pruning.structure import coupled_sets
from tests.cut_nets import own_net
from tests.every_net import builders, lively
from tests.nets import digits_channels_last_spec


@functools.cache
def whole(name: str) -> Candidate:
    """A net of compress/models, of cut_nets, or "channels_last"."""
    if name == "channels_last":
        return Candidate.untrained(digits_channels_last_spec(), 0)
    return lively(name) if name in builders() else own_net(name)


def random_kept(candidate: Candidate, fraction: float, seed: int = 0) -> dict[str, Numbers]:
    """By set about this fraction of its channels, as the net takes them."""
    sets, _ = coupled_sets(candidate)
    plan = planned(candidate, {s.name: max(1, round(fraction * s.channels)) for s in sets})
    rng = np.random.default_rng(seed)
    return best_kept(plan, sets, {s.name: rng.random(s.channels) for s in sets})


@functools.cache
def cut(name: str) -> tuple[Candidate, Mapping[str, Numbers]]:
    """(`whole` with 70 % of each set's channels, those that it keeps)."""
    kept = random_kept(whole(name), 0.7)
    return remove(whole(name), kept), kept


def pictures(candidate: Candidate, count: int = 2) -> np.ndarray:
    shape = candidate.spec.input_shape[1:]
    return np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)
