"""Prune, fine-tune, share, fold, int8 on one net: zeros and clusters come through, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import StageOrderError
from compress.simulate import simulate
from compress.stage import run
from compress.stages.factorize_svd import FactorizeSVD
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights

STAGES = (
    PruneMagnitude(0.6),
    FineTune(2, 0.05),
    ShareWeights(4),
    FineTune(1, 0.01),
    FoldBatchNorm(),
    QuantizeInt8(),
    FineTune(1, 0.002),
)


@pytest.mark.parametrize("net", ["trained_residual", "trained_branch"])
def test_zeros_and_clusters_come_through(net: str, request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue(net)
    kept: list[Candidate] = [candidate]
    for stage in STAGES:
        kept.append(run(kept[-1], (stage,), task))
    kept = kept[1:]
    done = kept[-1]
    assert [step.stage for step in done.history] == [type(stage).__name__ for stage in STAGES]
    pruned, tuned, shared, *later = kept
    assert [len(c.encodings) for c in kept] == [len(candidate.network.layers())] * len(STAGES)
    for name, mask in pruned.encodings.items():
        zeros = mask.zeros()
        assert zeros.sum() == int(0.6 * zeros.size + 1e-9)
        assert np.array_equal(tuned.network.parameters()[name] == 0, zeros)
        codes = indices(shared, name)
        assert np.array_equal(codes == 0, zeros)
        for candidate_after in later:
            assert np.array_equal(indices(candidate_after, name), codes)
            values = candidate_after.network.parameters()[name]
            assert (values[zeros] == 0).all()
            for code in np.unique(codes):
                integers = scaleless(candidate_after, name)[codes == code]
                assert np.unique(integers).size == 1  # one value a cluster
    final = done.encodings
    assert all(isinstance(e, Encoded) and e.on_integers for e in final.values())
    score = task.evaluate(simulate(done).predict)["top1"]
    assert score >= task.evaluate(candidate.predict)["top1"] - 0.04


def indices(candidate: Candidate, name: str) -> np.ndarray:
    encoding = candidate.encodings[name]
    assert isinstance(encoding, Encoded)
    return encoding.indices


def scaleless(candidate: Candidate, name: str) -> np.ndarray:
    """The weights over their channel's scale: what clusters share."""
    encoding = candidate.encodings[name]
    assert isinstance(encoding, Encoded)
    return encoding.codebook[encoding.indices]


@pytest.mark.parametrize("net", ["trained_branch", "trained_plain"])
def test_factors_go_through_the_rest(net: str, request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue(net)
    stages = (FactorizeSVD(energy=0.98), FoldBatchNorm(), ShareWeights(5), QuantizeInt8())
    done = run(candidate, stages, task)
    assert done.history[0].touched
    assert done.history[0].parameters < sum(p.size for p in candidate.network.parameters().values())
    score = task.evaluate(simulate(done).predict)["top1"]
    assert score >= task.evaluate(candidate.predict)["top1"] - 0.04


def test_folding_after_factorizing_a_pointwise_layer(request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue("trained_branch")
    stages = (FactorizeSVD(rank=12, include=("last.0",)), FoldBatchNorm())
    done = run(candidate, stages, task)
    assert "last.0.1" in done.history[1].touched
    with pytest.raises(StageOrderError, match="FactorizeSVD"):
        run(done, (ShareWeights(4), FactorizeSVD(rank=2)), task)
