"""The cost model against what is counted on the nets that removal makes."""

from __future__ import annotations

import numpy as np
import pytest

from compress.measure import count
from compress.pruning.costs import Costs
from compress.pruning.planning import best_kept, coupled_sets, planned
from compress.pruning.removal import remove
from tests.every_net import lively


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet20"])
def test_it_is_what_the_smaller_net_has(name: str) -> None:
    candidate = lively(name)
    sets, _ = coupled_sets(candidate)
    rng = np.random.default_rng(0)
    asked = {one.name: int(rng.integers(one.channels // 2, one.channels)) for one in sets}
    scores = {one.name: rng.random(one.channels) for one in sets}
    kept = best_kept(planned(candidate, asked), sets, scores)
    done = remove(candidate, kept)
    before = count(candidate.spec, candidate.network.module())
    after = count(done.spec, done.network.module())
    for kind, whole, left in (
        ("macs", before.macs, after.macs),
        ("parameters", before.parameters, after.parameters),
    ):
        costs = Costs(candidate, sets, kind)  # type: ignore[arg-type]
        assert costs.whole == whole
        for one in sets:  # one set after another: each finds the others as they are by then
            gone = {one.name: np.setdiff1d(np.arange(one.channels), kept[one.name])}
            saving, earlier = costs.saving(gone), costs.now
            costs.drop(gone)
            assert costs.now == earlier - saving
        assert costs.now == left
