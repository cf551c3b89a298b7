"""Nets read from .onnx files: cut where their program has no sizes baked in, whole where it has."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.importing.opening import open_model
from compress.pruning.masked import masked
from compress.pruning.planning import best_kept, planned
from compress.pruning.removal import remove
from compress.pruning.structure import coupled_sets
from targets.formats.onnx import OnnxExporter
from tests.cut_nets import own_net
from tests.nets import digits_branch_spec, digits_residual_spec


@functools.cache
def imported(name: str) -> Candidate:
    specs = {"residual": digits_residual_spec, "branch": digits_branch_spec}
    own = Candidate.untrained(specs[name](), 0) if name in specs else own_net(name)
    path = Path(tempfile.mkdtemp()) / f"{name}.onnx"
    OnnxExporter()(own, path)
    return open_model(str(path))


@pytest.mark.parametrize("name", ["residual", "branch", "Squeezed", "Padded"])
def test_what_is_left_answers_as_the_whole_net_with_those_channels_unread(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    candidate = imported(name)
    capfd.readouterr()
    sets, _ = coupled_sets(candidate)
    plan = planned(candidate, {one.name: round(0.6 * one.channels) for one in sets})
    rng = np.random.default_rng(0)
    kept = best_kept(plan, sets, {one.name: rng.random(one.channels) for one in sets})
    smaller = remove(candidate, kept)
    smaller.check()
    shape = candidate.spec.input_shape[1:]
    batch = rng.standard_normal((3, *shape)).astype(np.float32)
    wanted = masked(candidate, sets, kept).predict(batch)
    np.testing.assert_allclose(
        smaller.predict(batch), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
    )
    sizes = [sum(p.size for p in c.network.parameters().values()) for c in (candidate, smaller)]
    assert sizes[1] < sizes[0]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("branch", "the net does not run with fewer: shape"),
        ("Padded", "adds 4 and 4 channels of zeros"),
    ],
)
def test_what_is_baked_in_stays_for_that_reason(name: str, reason: str) -> None:
    reasons = [skip.reason for skip in coupled_sets(imported(name))[1]]
    assert any(reason in one for one in reasons), reasons
    assert all("\n" not in one for one in reasons)
