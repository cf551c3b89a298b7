"""TrainInt8: from float, folded or not, pruned, shared, or from grids; norms act, then rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import RangeError, StageOrderError, TaskError
from compress.simulated import FROZEN
from compress.spec import Preprocess
from compress.stage import run
from compress.stages.absorb_bias import AbsorbHighBias
from compress.stages.acting_norms import (
    with_acting_norms,
    with_folded_norms,
    with_room_for_biases,
)
from compress.stages.adaround import AdaRound
from compress.stages.correct_bias import CorrectBias
from compress.stages.equalize_ranges import EqualizeRanges
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.stages.train_int8 import TrainInt8
from compress.task import Task, Tuning
from recipes.toolbox.training import Trainer
from tests.digits import digits, trained
from tests.nets import digits_branch_spec
from tests.recipes.pictures import digit_splits

PICTURES = digits()["validation"].images[:64]
STAGE = TrainInt8(1, 0.01)


@pytest.fixture(scope="module")
def starts() -> dict[str, Candidate]:
    """One candidate of each kind that the stage takes."""
    candidate, task = trained(digits_branch_spec)
    pruned = PruneMagnitude(0.5)(candidate, task).candidate
    folded = FoldBatchNorm()(candidate, task).candidate
    return {
        "acting": candidate,
        "folded": folded,
        "pruned": pruned,
        "shared": ShareWeights(4)(pruned, task).candidate,
        "int8": QuantizeInt8()(folded, task).candidate,
        "int4": QuantizeInt8(weight_bits=4)(folded, task).candidate,
    }


def task(**changes: Any) -> Task:
    return replace(trained(digits_branch_spec).task, **changes)


KINDS = ["acting", "folded", "pruned", "shared", "int8", "int4"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_on_grids_with_zeros_and_clusters_kept(
    starts: dict[str, Candidate], kind: str
) -> None:
    start = starts[kind]
    result = STAGE(start, task())
    done = result.candidate
    done.check()
    layers = {layer.name for layer in done.network.layers()}
    assert set(result.touched) == layers
    assert not [n for n in done.network.graph.nodes if n.id.operator == "batch_norm"]
    assert task().evaluate(done.predict)["top1"] > 0.9
    for name, encoding in done.encodings.items():
        assert isinstance(encoding, Encoded)
        assert encoding.on_integers
        old = start.encodings.get(name)
        if old is not None:
            assert not done.network.parameters()[name][old.zeros()].any()
        if kind == "shared":
            assert isinstance(old, Encoded)
            assert np.array_equal(encoding.indices, old.indices)
        if kind == "int4":
            assert encoding.codebook.size == 16
    learnt = {grid.observer for grid in done.activations.values()}
    assert learnt == {"minmax", "minmax, learnt"}


@pytest.mark.parametrize("kind", ["acting", "folded", "int8"])
def test_no_training_only_quantizes(starts: dict[str, Candidate], kind: str) -> None:
    expected = starts["int8"].digest()
    assert TrainInt8(0, 0.1)(starts[kind], task()).candidate.digest() == expected
    lazy = task(finetune=_obedient)
    if kind == "acting":  # the scale is divided by the norm's factor and multiplied again
        done = TrainInt8(1, 0.1, freeze=1)(starts[kind], lazy).candidate
        answers = done.predict(PICTURES), starts["int8"].predict(PICTURES)
        (output,) = done.network.graph.outputs
        assert np.abs(answers[0] - answers[1]).max() <= 2.01 * done.activations[output].scale
        assert done.activations == starts["int8"].activations
    else:
        assert TrainInt8(1, 0.1)(starts[kind], lazy).candidate.digest() == expected


def _obedient(model: nn.Module, tuning: Tuning) -> None:
    del model
    for epoch in range(tuning.epochs):
        tuning.after_epoch(epoch)


def test_there_and_back_is_the_same_net(starts: dict[str, Candidate]) -> None:
    acting = with_acting_norms(starts["acting"], starts["int8"])
    acting.check()
    assert len(acting.activations) == len(starts["int8"].activations)
    back = with_folded_norms(acting, task())
    back.check()
    assert back.activations == starts["int8"].activations
    assert back.ties == starts["int8"].ties
    for name, encoding in starts["int8"].encodings.items():
        found = back.encodings[name]
        assert isinstance(found, Encoded)
        assert isinstance(encoding, Encoded)
        assert np.array_equal(found.indices, encoding.indices)
        np.testing.assert_allclose(found.scale, encoding.scale, rtol=1e-6)


def test_weights_that_are_zero_by_rounding_alone_may_leave_it(
    starts: dict[str, Candidate],
) -> None:
    before, after = starts["int4"], TrainInt8(1, 0.01, QuantizeInt8(weight_bits=4))
    done = after(starts["folded"], task()).candidate
    gained = 0
    for name, encoding in before.encodings.items():
        gained += int((done.network.parameters()[name][encoding.zeros()] != 0).sum())
    assert gained > 0


@pytest.mark.parametrize("learn_steps", [False, True])
def test_steps_are_learnt_where_asked(starts: dict[str, Candidate], learn_steps: bool) -> None:
    done = TrainInt8(1, 0.01, learn_steps=learn_steps)(starts["int8"], task()).candidate
    changed = [n for n, e in done.encodings.items() if not _same_scale(e, starts["int8"], n)]
    assert bool(changed) is learn_steps
    assert (done.activations == starts["int8"].activations) is not learn_steps


def _same_scale(encoding: object, other: Candidate, name: str) -> bool:
    known = other.encodings[name]
    assert isinstance(encoding, Encoded)
    assert isinstance(known, Encoded)
    return np.array_equal(encoding.scale, known.scale)


def test_norms_are_frozen_late_even_by_a_loop_that_calls_train_each_epoch(
    starts: dict[str, Candidate],
) -> None:
    means: list[np.ndarray] = []
    images = torch.from_numpy(PICTURES)

    def loop(model: nn.Module, tuning: Tuning) -> None:
        for epoch in range(tuning.epochs):
            model.train()
            model(images + 0.1 * epoch)
            norm = model.get_submodule("stem.1")
            assert isinstance(norm.running_mean, torch.Tensor)
            means.append(norm.running_mean.numpy().copy())
            tuning.after_epoch(epoch)
            assert bool(model.state_dict()[FROZEN]) is (epoch >= 1)

    TrainInt8(4, 0.01, freeze=0.5)(starts["acting"], task(finetune=loop))
    assert not np.array_equal(means[0], means[1])
    assert np.array_equal(means[1], means[2])
    assert np.array_equal(means[2], means[3])


def test_a_loop_that_never_says_that_an_epoch_is_over_is_refused(
    starts: dict[str, Candidate],
) -> None:
    deaf = task(finetune=lambda _model, _tuning: None)
    with pytest.raises(TaskError, match=r"never frozen.*after_epoch") as caught:
        TrainInt8(2, 0.01, freeze=0.5)(starts["acting"], deaf)
    assert "\n" not in str(caught.value)


def test_a_killed_training_goes_on_to_the_same_bytes(
    starts: dict[str, Candidate], tmp_path: Path
) -> None:
    data = digit_splits().train
    pictures, labels = data.images[:256], data.labels[:256]
    trainer = Trainer(
        pictures, labels, Preprocess(channel_order="GREY", scale=1 / 16), optimizer="sgd"
    )

    def killed(model: nn.Module, tuning: Tuning) -> None:
        def die(epoch: int) -> None:
            tuning.after_epoch(epoch)
            if epoch == 1:  # the state after epoch 1 has been kept
                raise ZeroDivisionError

        trainer(model, replace(tuning, after_epoch=die))

    stage, start = TrainInt8(2, 0.01, freeze=0.5), starts["acting"]
    whole = run(start, [stage], task(finetune=trainer))
    with pytest.raises(ZeroDivisionError):
        run(start, [stage], task(finetune=killed), folder=tmp_path)
    assert list(tmp_path.glob("*.progress"))
    again = run(start, [stage], task(finetune=trainer), folder=tmp_path, resume=True)
    assert again.digest() == whole.digest()


def test_a_bias_too_large_for_its_steps_raises_the_scale(starts: dict[str, Candidate]) -> None:
    start = starts["int8"]
    encoding = start.encodings["fc.weight"]
    assert isinstance(encoding, Encoded)
    scale = encoding.scale.copy()
    scale[3] = 1e-12
    crowded = start.with_values({}, {"fc.weight": replace(encoding, scale=scale)})
    found = with_room_for_biases(crowded)
    found.check()
    settled = found.encodings["fc.weight"]
    assert isinstance(settled, Encoded)
    grid = next(
        found.activations[n.inputs[0]] for n in found.network.graph.nodes if n.id.module == "fc"
    )
    steps = found.network.parameters()["fc.bias"][3] / (settled.scale[3] * grid.scale)
    assert abs(steps) <= 2**30 * 1.001
    assert np.array_equal(np.delete(settled.scale, 3), np.delete(scale, 3))
    assert with_room_for_biases(start) is start


@pytest.mark.parametrize(
    ("quantize", "reason"),
    [
        ((EqualizeRanges(), QuantizeInt8()), "EqualizeRanges changes the folded net"),
        (CorrectBias((AbsorbHighBias(), QuantizeInt8())), "AbsorbHighBias changes the folded net"),
        (AdaRound(steps=1, pictures=1), "quantize gives no tensor a grid"),
    ],
)
def test_what_acting_norms_would_lose_is_refused(
    starts: dict[str, Candidate], quantize: Any, reason: str
) -> None:
    with pytest.raises(
        StageOrderError, match=rf"^TrainInt8: {reason}.*put FoldBatchNorm"
    ) as caught:
        TrainInt8(1, 0.01, quantize)(starts["acting"], task())
    assert "\n" not in str(caught.value)
    TrainInt8(1, 0.01, quantize)(starts["folded"], task(finetune=_obedient)).candidate.check()


@pytest.mark.parametrize("quantize", [FoldBatchNorm(), 3, QuantizeInt8, ()])
def test_what_does_not_quantize_is_refused(quantize: Any) -> None:
    with pytest.raises(RangeError, match=r"^TrainInt8\(quantize="):
        TrainInt8(1, 0.1, quantize)
