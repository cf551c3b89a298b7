"""The cost model against what is counted on the nets that removal makes."""

from __future__ import annotations

import numpy as np
import pytest

from compress.measure import count
from compress.pruning.costs import Costs
from compress.pruning.structure import coupled_sets
from tests.cuts import cut, whole


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet20"])
def test_it_is_what_the_smaller_net_has(name: str) -> None:
    candidate, (done, kept) = whole(name), cut(name)
    sets, _ = coupled_sets(candidate)
    before = count(candidate.spec, candidate.network.module())
    after = count(done.spec, done.network.module())
    for kind, all_of_it, left in (
        ("macs", before.macs, after.macs),
        ("parameters", before.parameters, after.parameters),
    ):
        costs = Costs(candidate, sets, kind)  # type: ignore[arg-type]
        assert costs.whole == all_of_it
        for one in sets:  # one set after another: each finds the others as they are by then
            gone = {one.name: np.setdiff1d(np.arange(one.channels), kept[one.name])}
            saving, earlier = costs.saving(gone), costs.now
            costs.drop(gone)
            assert costs.now == earlier - saving
        assert costs.now == left
