"""The shared test nets have learnt something, so that a loss of accuracy can be seen."""

from __future__ import annotations

import pytest

from tests.digits import Trained, digits


@pytest.mark.parametrize("name", ["trained_residual", "trained_branch", "trained_plain"])
def test_the_shared_nets_have_learnt_the_digits(name: str, request: pytest.FixtureRequest) -> None:
    net: Trained = request.getfixturevalue(name)
    assert net.task.test is not None
    assert net.task.test(net.candidate.predict)["top1"] > (0.93 if "plain" in name else 0.95)
    parameters = net.candidate.network.parameters()
    assert 2_000 < sum(p.size for p in parameters.values()) < 12_000


def test_the_splits_do_not_overlap() -> None:
    splits = digits()
    seen = {k: {image.tobytes() for image in v.images} for k, v in splits.items()}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert seen["calibration"] <= seen["train"]
