"""The CIFAR-10 recipes before they work: what they ask for, and which weights they take."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from compress.candidate import Candidate
from compress.checkpoint import save_half
from compress.errors import CheckpointError, DataError
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from recipes.toolbox.cifar import WEIGHTS, baseline
from recipes.toolbox.job import Job

RECIPES = (
    "cifar10_deep_compression",
    "cifar10_qat_int8",
    "mobilenet_v2_int8",
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
