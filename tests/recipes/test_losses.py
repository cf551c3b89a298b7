"""Losses against their definitions, written out in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compress.spec import Preprocess
from compress.task import Tuning
from recipes.toolbox.augmenting import Draws
from recipes.toolbox.batches import Maker, Plan, Share, make_targets
from recipes.toolbox.losses import Loss, Mixing, Targets, soft_labels
from recipes.toolbox.reading import Reader
from recipes.toolbox.teaching import Teaching
from recipes.toolbox.training import Trainer
from tests.candidates import fresh
from tests.digits import Trained
from tests.nets import digits_plain_spec, digits_residual_spec
from tests.recipes.pictures import digit_splits

CLASSES = 4
RNG = np.random.default_rng(0)
OUTPUTS = torch.from_numpy(RNG.normal(size=(9, CLASSES)).astype(np.float32))
LABELS = np.array([0, 1, 2, 3, 0, 0, 1, 2, 0])
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0])


def logs(outputs: torch.Tensor, temperature: float = 1.0) -> NDArray[np.float64]:
    values = outputs.detach().double().numpy() / temperature
    return values - np.log(np.exp(values).sum(1, keepdims=True))


def gradient(loss: Loss, targets: Targets) -> tuple[float, NDArray[np.float32]]:
    outputs = OUTPUTS.clone().requires_grad_(True)
    value = loss(outputs, targets)
    value.backward()
    assert outputs.grad is not None
    return float(value.detach()), outputs.grad.numpy()


def test_class_weights_give_the_weighted_mean_and_its_gradient() -> None:
    value, found = gradient(
        Loss(weights=torch.from_numpy(WEIGHTS).float()), Targets(torch.from_numpy(LABELS))
    )
    own = WEIGHTS[LABELS]
    expected = -(own * logs(OUTPUTS)[np.arange(9), LABELS]).sum() / own.sum()
    assert value == pytest.approx(expected, rel=1e-6)
    single = np.exp(logs(OUTPUTS)) - np.eye(CLASSES)[LABELS]  # of each picture by itself
    np.testing.assert_allclose(found, own[:, None] * single / own.sum(), atol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_labels_are_the_mean_of_both(weighted: bool, smoothing: float) -> None:
    """lambda * loss(own) + (1 - lambda) * loss(partner), as the paper's section 2 has it."""
    partners = np.array([3, 0, 1, 2, 8, 7, 6, 5, 4])
    weights = torch.from_numpy(WEIGHTS).float() if weighted else None
    loss = Loss(smoothing=smoothing, weights=weights)
    labels, other = torch.from_numpy(LABELS), torch.from_numpy(LABELS[partners])
    value, found = gradient(loss, Targets(labels, other, share=0.3))
    parts = [gradient(loss, Targets(t)) for t in (labels, other)]
    masses = [(WEIGHTS if weighted else np.ones(4))[t.numpy()].sum() for t in (labels, other)]
    shares = np.array([0.3 * masses[0], 0.7 * masses[1]])
    shares /= shares.sum()
    assert value == pytest.approx(
        sum(s * p[0] for s, p in zip(shares, parts, strict=True)), rel=1e-5
    )
    expected = sum(s * p[1] for s, p in zip(shares, parts, strict=True))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_soft_labels_are_shares() -> None:
    found = soft_labels(torch.tensor([0, 2]), torch.tensor([1, 2]), 0.25, 3)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0], [0, 0, 1.0]]))


def test_mixup_gives_convex_sums_of_the_very_pictures_and_their_labels() -> None:
    train = digit_splits().train
    pixels, labels = train.images[:50], train.labels[:50]
    preprocess = Preprocess(channel_order="GREY", scale=1 / 16)
    trainer = Trainer(pixels, labels, preprocess, batch_size=20, mixup=0.4)
    maker = Maker(Reader(pixels, 1), trainer.augmentation, preprocess, Share())
    shares = set()
    for plan in trainer.planner.plans(np.random.default_rng(0)):
        mixing = plan.mixing
        assert mixing is not None
        shares.add(mixing.share)
        assert sorted(mixing.partners.tolist()) == list(range(len(plan.chosen)))
        own = preprocess.normalise(pixels[plan.chosen])
        other = preprocess.normalise(pixels[plan.chosen[mixing.partners]])
        expected = mixing.share * own + (1 - mixing.share) * other
        np.testing.assert_allclose(maker.make(plan), expected, atol=1e-6)
        targets = make_targets(plan, labels, None, Share())
        assert targets.share == mixing.share
        assert targets.labels is not None
        assert targets.partners is not None
        np.testing.assert_array_equal(targets.labels.numpy(), labels[plan.chosen])
        np.testing.assert_array_equal(
            targets.partners.numpy(), labels[plan.chosen[mixing.partners]]
        )
    assert len(shares) == 3
    assert all(0 < share < 1 for share in shares)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_shares_of_a_batch_average_to_the_whole(
    mixed: bool, weights: NDArray[np.float64] | None, count: int
) -> None:
    """9 pictures in 2 or 4 shares: the mean of the shares' gradients is the batch's."""
    rng = np.random.default_rng(1)
    plan = Plan(rng.permutation(9), Draws(), Mixing.draw(1.0, 9, rng) if mixed else None)
    teacher = torch.from_numpy(rng.normal(size=(9, CLASSES)).astype(np.float32))
    w = None if weights is None else torch.from_numpy(weights).float()
    loss = Loss(0.1, w, alpha=0.3, temperature=3.0)

    def mean(count: int) -> NDArray[np.float64]:
        total = np.zeros((9, CLASSES))
        for index in range(count):
            share = Share(index, count)
            part = share.of(9)
            targets = make_targets(plan, LABELS, weights, share)
            targets = replace(targets, teacher=teacher[part])
            outputs = OUTPUTS[part].clone().requires_grad_(True)
            loss(outputs, targets).backward()
            assert outputs.grad is not None
            total[part] += outputs.grad.numpy() / count
        return total

    np.testing.assert_allclose(mean(count), mean(1), atol=1e-7)


def test_shares_cover_the_batch_once() -> None:
    for size in (4, 9, 128):
        for count in (1, 2, 3, 4):
            parts = [Share(i, count).of(size) for i in range(count)]
            assert np.concatenate([np.arange(size)[p] for p in parts]).tolist() == list(range(size))
            lengths = [p.stop - p.start for p in parts]
            assert max(lengths) - min(lengths) <= 1


def test_distillation_is_the_divergence_at_the_temperature() -> None:
    teacher = torch.from_numpy(np.random.default_rng(5).normal(size=(9, CLASSES)).astype("f4"))
    warm, goal = logs(OUTPUTS, 3.0), logs(teacher, 3.0)
    divergence = (np.exp(goal) * (goal - warm)).sum(1).mean() * 9
    alone = gradient(Loss(temperature=3.0), Targets(None, teacher=teacher))
    assert alone[0] == pytest.approx(divergence, rel=1e-5)
    np.testing.assert_allclose(alone[1], 3 * (np.exp(warm) - np.exp(goal)) / 9, atol=1e-6)
    labels = torch.from_numpy(LABELS)
    hard = gradient(Loss(), Targets(labels))
    both = gradient(Loss(alpha=0.7, temperature=3.0), Targets(labels, teacher=teacher))
    assert both[0] == pytest.approx(0.3 * hard[0] + 0.7 * alone[0], rel=1e-5)
    np.testing.assert_allclose(both[1], 0.3 * hard[1] + 0.7 * alone[1], atol=1e-6)
    same = gradient(Loss(temperature=3.0), Targets(None, teacher=OUTPUTS))
    assert same[0] == pytest.approx(0, abs=1e-6)
    assert np.abs(same[1]).max() < 1e-7


def agreement(student: nn.Module, teacher: Any, pictures: NDArray[np.float32]) -> float:
    with torch.inference_mode():
        answers = student.eval()(torch.from_numpy(pictures)).argmax(1).numpy()
    student.train()
    return float((answers == teacher(pictures).argmax(1)).mean())


@pytest.mark.parametrize("function", [False, True])
def test_a_student_learns_from_the_teacher_alone(trained_net: Trained, function: bool) -> None:
    """No labels; on pictures that neither has seen."""
    splits, spec = digit_splits(), digits_plain_spec()
    teacher = trained_net.candidate
    student = fresh(digits_plain_spec).network.module().requires_grad_(True).train()
    unseen = spec.preprocess.normalise(splits.test.images)
    before = agreement(student, teacher.predict, unseen)
    asked = teacher.predict if function else teacher
    trainer = Trainer(splits.train.images, None, spec.preprocess, teacher=asked, batch_size=64)
    trainer(student, Tuning(12, 1e-2, 0, None))
    assert before < 0.3
    assert agreement(student, teacher.predict, unseen) > 0.9


def test_a_teacher_sees_the_very_pictures_of_the_student() -> None:
    """Augmented and mixed: recorded on both sides."""
    train = digit_splits().train
    seen: list[NDArray[np.float32]] = []
    inputs: list[NDArray[np.float32]] = []
    model = fresh(digits_residual_spec).network.module().requires_grad_(True).train()
    model.register_forward_pre_hook(lambda _, x: inputs.append(x[0].numpy().copy()))

    def teacher(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch.copy())
        return np.zeros((len(batch), 10), np.float32)

    trainer = Trainer(
        *(train.images[:60], train.labels[:60], Preprocess(channel_order="GREY")),
        batch_size=20,
        mixup=1.0,
        shift=1,
        teacher=teacher,
    )
    trainer(model, Tuning(2, 1e-3, 0, None))
    assert len(seen) == 6
    for asked, shown in zip(seen, inputs, strict=True):
        np.testing.assert_array_equal(asked, shown)


def test_a_teacher_answers_as_its_candidate(trained_net: Trained) -> None:
    batch = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    teaching = Teaching(trained_net.candidate, torch.device("cpu"))
    np.testing.assert_array_equal(teaching(batch).numpy(), trained_net.candidate.predict(batch))
