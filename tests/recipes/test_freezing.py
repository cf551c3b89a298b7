"""Frozen layers keep every byte; a new classifier comes with all the other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from compress.candidate import Candidate
from compress.constrained import constrained
from compress.errors import CheckpointError, RangeError
from compress.models.lenet import lenet5_spec
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.spec import Preprocess
from compress.task import Tuning
from recipes.toolbox.freezing import frozen, with_new_classifier
from recipes.toolbox.training import Trainer
from tests.candidates import fresh, half_mask, int8, shared
from tests.nets import digits_residual_spec
from tests.recipes.pictures import digit_splits


def encoded() -> Candidate:
    candidate = fresh(digits_residual_spec)
    shapes = {n: p.shape for n, p in candidate.network.parameters().items()}
    encodings = {
        "stem.0.weight": int8(shapes["stem.0.weight"]),
        "conv1.weight": half_mask(shapes["conv1.weight"]),
        "conv2.weight": shared(shapes["conv2.weight"]),
    }
    return candidate.with_values({}, encodings)


@pytest.mark.parametrize(
    "candidate", [fresh(digits_residual_spec), encoded()], ids=["dense", "encoded"]
)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_frozen_layers_keep_every_byte(candidate: Candidate, decay: float) -> None:
    """Running statistics and encodings too; all else learns."""
    train = digit_splits().train
    trainer = Trainer(
        *(train.images[:256], train.labels[:256], candidate.spec.preprocess),
        optimizer="sgd",
        weight_decay=decay,
        frozen=("stem", "conv?", "bn1"),
    )
    with constrained(candidate) as tuned:
        trainer(tuned.model, Tuning(2, 1e-1, 0, None))
    tuned.result.check()
    before, after = candidate.network.state(), tuned.result.network.state()
    kept = ("stem.", "conv1.", "conv2.", "bn1.")
    for name in before:
        same = before[name].tobytes() == after[name].tobytes()
        assert same == name.startswith(kept), name


def test_batch_norm_uses_its_running_statistics_while_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout()).train()
    with frozen(model, ("1", "2")):
        assert [m.training for m in model] == [True, False, False]
        assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    assert all(m.training for m in model)
    assert all(p.requires_grad for p in model.parameters())


def test_patterns_that_are_wrong() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with (
        pytest.raises(RangeError, match="'fc' matches nothing; the modules are: 0, 1"),
        frozen(model, ("0", "fc")),
    ):
        pass
    with pytest.raises(RangeError, match="leaves nothing to train"), frozen(model, ("*",)):
        pass
    assert all(p.requires_grad for p in model.parameters())


def of_five() -> Candidate:
    spec = mobilenet_v2_spec(small=True, classes=tuple("abcde"))
    return Candidate.untrained(spec, 7)


@pytest.mark.parametrize("kind", ["candidate", "file", "arrays"])
def test_a_new_classifier_on_the_old_net(kind: str, tmp_path: Path) -> None:
    old, spec = of_five(), mobilenet_v2_spec(small=True)
    arrays = old.network.state()
    save_file({n: np.array(a) for n, a in arrays.items()}, tmp_path / "old.safetensors")
    given = {"candidate": old, "file": tmp_path / "old.safetensors", "arrays": arrays}[kind]
    new = with_new_classifier(spec, given, seed=3)
    new.check()
    last = new.network.layers()[-1]
    assert last.shape[0] == 10
    untrained = Candidate.untrained(spec, 3).network.state()
    for name, array in new.network.state().items():
        source = untrained if name in (last.weight, last.bias) else arrays
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_weights_of_another_net_are_refused() -> None:
    with pytest.raises(CheckpointError, match="give the weights of this very net"):
        with_new_classifier(mobilenet_v2_spec(small=True), fresh(lenet5_spec))
    with pytest.raises(RangeError, match="compressed already"):
        with_new_classifier(digits_residual_spec(), encoded())


def test_transfer_learns_the_new_classes_only_in_the_classifier() -> None:
    train = digit_splits().train
    net = with_new_classifier(digits_residual_spec(), fresh(digits_residual_spec), 1)
    model = net.network.module().requires_grad_(True).train()
    names = tuple(name for name, _ in model.named_children() if name != "fc")
    preprocess = Preprocess(channel_order="GREY", scale=1 / 16)
    trainer = Trainer(train.images[:64], train.labels[:64], preprocess, frozen=names)
    trainer(model, Tuning(1, 1e-2, 0, None))
    before = net.network.state()
    changed = {
        n for n, t in model.state_dict().items() if not torch.equal(t, torch.tensor(before[n]))
    }
    assert changed == {"fc.weight", "fc.bias"}
