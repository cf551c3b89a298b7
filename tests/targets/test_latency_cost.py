from __future__ import annotations

import pytest

from compress.errors import RangeError
from compress.pruning.budgets import LatencyBudget
from compress.stages.prune_channels import PruneChannels
from targets.latency_cost import LatencyCost
from tests.candidates import fresh
from tests.nets import digits_residual_spec


def test_it_measures_the_file_that_a_candidate_gives() -> None:
    latency_ms = LatencyCost("onnxruntime")(fresh(digits_residual_spec))
    assert 1e-4 < latency_ms < 1e3


def test_a_stage_names_runtime_and_threads_in_its_report() -> None:
    stage = PruneChannels(latency=LatencyBudget(LatencyCost("litert", 2), 0.7))
    assert "LatencyCost(runtime='litert', threads=2)" in repr(stage)


def test_what_is_not_allowed_is_said() -> None:
    with pytest.raises(RangeError, match=r"runtime='tensorrt'.*allowed are onnxruntime, litert"):
        LatencyCost("tensorrt")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="threads=0"):
        LatencyCost(threads=0)
