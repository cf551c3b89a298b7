"""The CIFAR-10 recipes before they work: what they ask for, and which weights they take."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from compress.candidate import Candidate
from compress.checkpoint import save_half
from compress.errors import CheckpointError, DataError
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from recipes.toolbox.cifar import WEIGHTS, baseline
from recipes.toolbox.job import Job
from recipes.toolbox.small_nets import FULL
from recipes.train_cifar10 import NETS

RECIPES = (
    "cifar10_channels",
    "cifar10_deep_compression",
    "cifar10_qat_int8",
    "cifar10_svd_int8",
    "mobilenet_v2_int8",
    "resnet56_channels",
    "shufflenet_v2_int8",
)


@pytest.mark.parametrize("name", RECIPES)
def test_without_pictures_they_say_what_they_need(name: str, tmp_path: Path) -> None:
    job = Job(name, tmp_path)
    job.give(net="squeezenet")
    with pytest.raises(DataError, match=r"needs data: add --data DIR, .*train\.npz") as caught:
        importlib.import_module(f"recipes.{name}").main(job)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_baseline_is_ours_or_the_given_one(tmp_path: Path) -> None:
    spec = shufflenet_v2_spec(small=True)
    trained = Candidate.untrained(spec, seed=3)
    given = tmp_path / "mine.safetensors"
    save_half(trained, given)
    job = Job("r", tmp_path)
    job.give(weights=given)
    assert baseline(job, spec, "shufflenet_v2").digest() == Candidate.load(spec, given).digest()
    job.give(weights=None)
    with pytest.raises(CheckpointError, match=r"nonesuch-cifar10\.safetensors"):
        baseline(job, spec, "nonesuch")
    assert WEIGHTS.name == "weights"


def test_narrower_nets_are_trained_as_the_full_ones_are() -> None:
    assert set(NETS) == {
        *("squeezenet", "squeezenet-0.75", "squeezenet-0.5", "mobilenet_v2", "mobilenet_v2-0.75"),
        *("mobilenet_v2-0.5", "shufflenet_v2", "shufflenet_v2-0.5"),
    }
    for name, (plan, net) in NETS.items():
        family, _, width = name.partition("-")
        full = NETS[family][1]
        assert plan == NETS[family][0]
        assert net.spec.kwargs.get("width", 1.0) == float(width or 1)
        assert replace(net.spec, kwargs=full.spec.kwargs) == full.spec
    assert "width" not in FULL["squeezenet"].spec.kwargs  # as the weights were published
