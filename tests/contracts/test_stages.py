"""What holds for every stage there is: alone, and in every ordered pair.

A new stage needs one line in SETTINGS and one in REFUSED, nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import compress.stages
from compress.candidate import Candidate
from compress.edit import FoldedBatchNorm
from compress.errors import RangeError, StageOrderError, TaskError
from compress.pruning.budgets import LatencyBudget
from compress.stage import Stage, StageResult, check_order
from compress.stages.fine_tune import FineTune
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_channels import PruneChannels
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task, Tuning
from tests.contracts.walk import classes_in
from tests.digits import digits, trained
from tests.nets import digits_residual_spec

STAGES = classes_in(compress.stages, lambda found: hasattr(found, "changes"))
# The least that each stage needs: its example in these tests.
SETTINGS: dict[str, dict[str, Any]] = {
    "AdaRound": {},
    "AbsorbHighBias": {},
    "CorrectBias": {},
    "EqualizeRanges": {},
    "Distill": {"steps": 3},
    "FactorizeSVD": {"energy": 0.8},
    "FineTune": {"epochs": 1, "learning_rate": 0.01},
    "FoldBatchNorm": {},
    "PruneChannels": {"keep": 0.7},
    "PruneChannelsGradually": {
        "prune": PruneChannels(macs=0.6),
        "train": FineTune(1, 0.001),
        "rounds": 2,
    },
    "PruneGradually": {
        "prune": PruneMagnitude(0.5),
        "train": FineTune(2, 0.01),
        "rounds": 2,
    },
    "PruneMagnitude": {"sparsity": 0.5},
    "QuantizeInt8": {},
    "QuantizeWithin": {"drop": 1.0},
    "ReestimateBatchNorm": {},
    "ShareByRate": {"price": 1e-7},
    "ShareWeights": {"bits": 3},
    "TrainInt8": {"epochs": 1, "learning_rate": 0.01},
}
# Arguments outside their range, one set a line; () where a stage has nothing to get wrong.
REFUSED: dict[str, tuple[dict[str, Any], ...]] = {
    "AdaRound": (
        {"bits": 5},
        {"bits": 4.0},
        {"bits": (("conv", 4), ("*", 3))},
        {"bits": ()},
        {"steps": 0},
        {"steps": 2.5},
        {"pictures": 0},
        {"fit_bias": 1},
        {"exclude": "fc"},
    ),
    "AbsorbHighBias": (
        {"deviations": 0},
        {"deviations": -1.0},
        {"deviations": float("nan")},
        {"deviations": float("inf")},
        {"deviations": True},
        {"deviations": "3"},
    ),
    "CorrectBias": (
        {"quantize": 3},
        {"quantize": ()},
        {"quantize": FoldBatchNorm()},
        {"quantize": (QuantizeInt8(), "mse")},
        {"method": "guess"},
    ),
    "EqualizeRanges": ({"by": "guess"}, {"clipped": "never"}, {"weight_bits": 5}),
    "Distill": (
        {"quantize": 3},
        {"steps": -1},
        {"steps": 2.5},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": "1e-3"},
        {"batch": 0},
        {"batch": True},
        {"temperature": 0.0},
        {"temperature": float("inf")},
        {"trains": "weights"},
    ),
    "FactorizeSVD": (
        {},
        {"rank": 3, "energy": 0.5},
        {"macs": 0.5, "bytes": 0.5},
        {"macs": 1.0},
        {"parameters": 0.0},
        {"bytes": "half"},
        {"rank": 3, "split": "diagonal"},
        {"rank": 3, "weigh": "guess"},
        {"rank": 3, "round_to": 0},
        {"macs": 0.5, "even_if_larger": True},
        {"rank": 0},
        {"rank": -1},
        {"rank": 2.5},
        {"rank": True},
        {"energy": 0.0},
        {"energy": 1.01},
        {"energy": float("nan")},
        {"rank": 3, "include": "fc*"},
    ),
    "FineTune": (
        {"epochs": -1},
        {"epochs": 1.5},
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"refresh": 1},
    ),
    "FoldBatchNorm": (),
    "PruneChannels": (
        {"keep": 0.0},
        {"keep": 1.1},
        {"keep": float("nan")},
        {"keep": True},
        {"keep": "half"},
        {"keep": None},
        {"macs": 0.5},
        {"keep": None, "macs": 0.0},
        {"keep": None, "macs": 1.0},
        {"keep": None, "macs": float("nan")},
        {"keep": None, "parameters": "half"},
        {"keep": None, "macs": 0.5, "parameters": 0.5},
        {"keep": None, "latency": 0.5},
        {"keep": None, "latency": LatencyBudget(lambda _: 1.0, 2.0)},
        {"keep": None, "latency": LatencyBudget("fast", 0.5)},  # type: ignore[arg-type]
        {"criterion": "guess"},
        {"scope": "everywhere"},
        {"floor": 1.0},
        {"floor": -0.1},
        {"repair": 1},
        {"pictures": 0},
        {"round_to": 0},
        {"round_to": 2.0},
        {"exclude": "fc"},
    ),
    "PruneChannelsGradually": (
        {"prune": 0.5},
        {"train": 3},
        {"rounds": 0},
        {"rounds": 1.5},
    ),
    "PruneGradually": (
        {"prune": 0.5},
        {"train": 3},
        {"train": FineTune(0, 0.1)},
        {"train": FineTune(2, 0.1, refresh=True)},
        {"rounds": 0},
        {"rounds": 3},
        {"rounds": 1.5},
    ),
    "PruneMagnitude": (
        {"sparsity": -0.1},
        {"sparsity": 1.0},
        {"sparsity": float("nan")},
        {"sparsity": "half"},
        {"sparsity": (("fc", 2.0),)},
        {"sparsity": ()},
        {"scope": "everywhere"},
        {"scope": "global", "sparsity": (("fc", 0.5),)},
        {"scope": "lamp", "sparsity": (("fc", 0.5),)},
        {"exclude": "fc"},
    ),
    "QuantizeInt8": (
        {"observer": "guess"},
        {"percentile": 50},
        {"percentile": 101},
        {"percentile": float("nan")},
        {"keep_float": "fc"},
        {"weight_bits": 5},
        {"weight_bits": True},
        {"weight_bits": (("fc", 16),)},
    ),
    "QuantizeWithin": (
        {},
        {"drop": -0.1},
        {"drop": float("nan")},
        {"drop": True},
        {"drop": 0.1, "divergence": 0.1},
        {"drop": None, "divergence": -1.0},
        {"quantize": PruneMagnitude(0.5)},
        {"quantize": ()},
        {"cost": "joules"},
        {"pictures": 0},
        {"pictures": 1.5},
    ),
    "ReestimateBatchNorm": (),
    "ShareByRate": (
        {},
        {"price": -1e-9},
        {"price": float("nan")},
        {"price": True},
        {"price": "cheap"},
        {"price": 1e-4, "divergence": 0.1},
        {"price": None, "divergence": -0.1},
        {"price": None, "coded_bytes": float("inf")},
        {"rate": 1.5},
        {"model": "guess"},
        {"include": "fc"},
    ),
    "ShareWeights": (
        {"bits": 0},
        {"bits": 1},
        {"bits": 17},
        {"bits": 2.5},
        {"bits": True},
        {"bits": "four"},
        {"method": "best"},
        {"include": ["fc"]},
    ),
    "TrainInt8": (
        {"epochs": -1},
        {"epochs": 1.5},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"quantize": 3},
        {"learn_steps": 1},
        {"freeze": -0.1},
        {"freeze": 1.1},
        {"freeze": "late"},
        {"learning_rate": "1e-3"},
        {"freeze": float("nan")},
    ),
}
PAIRS = list(itertools.product(SETTINGS, repeat=2))


def example(name: str) -> Stage:
    if name not in SETTINGS:
        pytest.fail(f"stage {name} has no line in SETTINGS of {__file__}: add its least settings")
    return STAGES[name](**SETTINGS[name])


def short_training(model: nn.Module, tuning: Tuning) -> None:
    """A few steps: what is tested is the stage, not what is learnt."""
    images, labels = (torch.from_numpy(part[:96]) for part in digits()["train"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=tuning.learning_rate, momentum=0.9, weight_decay=1e-3
    )
    for epoch in range(tuning.epochs):
        order = np.random.default_rng((tuning.seed, epoch)).permutation(len(images))
        for rows in torch.from_numpy(order).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        tuning.after_epoch(epoch)


def task() -> Task:
    return dataclasses.replace(trained(digits_residual_spec).task, finetune=short_training)


PICTURES = digits()["validation"].images[:16]
BASES = ("with batch norm", "folded")


@functools.cache
def base(name: str) -> Candidate:
    candidate = trained(digits_residual_spec).candidate
    return candidate if name == "with batch norm" else apply(candidate, "FoldBatchNorm").candidate


def apply(candidate: Candidate, name: str) -> StageResult:
    """The stage's result with the laws checked, and the candidate handed in unchanged."""
    before = candidate.digest()
    result = example(name)(candidate, task())
    assert candidate.digest() == before, f"{name} changed the candidate that it was given"
    result.candidate.check()
    return result


def attempted(candidate: Candidate, name: str) -> Candidate | StageOrderError:
    try:
        return apply(candidate, name).candidate
    except StageOrderError as error:
        return error


@functools.cache
def first(start: str, name: str) -> Candidate | StageOrderError:
    """The candidate after one stage, or its refusal."""
    return attempted(base(start), name)


def test_the_walk_finds_the_stages_and_the_tables_have_a_line_for_each() -> None:
    assert len(STAGES) >= 6
    for table, title in ((SETTINGS, "SETTINGS"), (REFUSED, "REFUSED")):
        missing, gone = set(STAGES) - set(table), set(table) - set(STAGES)
        assert not missing, f"stages without a line in {title} of {__file__}: {sorted(missing)}"
        assert not gone, f"{title} has lines of stages that are not found: {sorted(gone)}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_frozen_dataclass_that_says_what_it_changes(name: str) -> None:
    stage = example(name)
    assert dataclasses.is_dataclass(stage)
    assert type(stage).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert stage.changes in ("structure", "values")
    assert "changes" not in {f.name for f in dataclasses.fields(stage)}
    assert type(stage).__doc__
    assert hash(stage) == hash(example(name))  # no mutable setting
    assert pickle.loads(pickle.dumps(stage)) == stage  # noqa: S301


@pytest.mark.parametrize("name", STAGES)
def test_its_repr_is_its_settings(name: str) -> None:
    stage = example(name)
    rebuilt = eval(repr(stage), dict(STAGES))  # noqa: S307
    assert rebuilt == stage
    assert "\n" not in repr(stage)


@pytest.mark.parametrize("name", STAGES)
def test_its_example_has_no_setting_more_than_needed(name: str) -> None:
    given = SETTINGS.get(name, {})
    for key in given:
        fewer = {k: v for k, v in given.items() if k != key}
        with pytest.raises((TypeError, RangeError)):
            STAGES[name](**fewer)


WRONG = [
    pytest.param(name, wrong, id=f"{name}-{'-'.join(wrong)}-{number}")
    for name, cases in REFUSED.items()
    for number, wrong in enumerate(cases)
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_bad_arguments_are_refused_in_one_line(name: str, wrong: dict[str, Any]) -> None:
    needed = {} if not wrong or name == "FactorizeSVD" else SETTINGS[name]
    with pytest.raises(RangeError, match=name) as error:
        STAGES[name](**{**needed, **wrong})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("start", BASES)
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_alone_composes_or_says_where_it_belongs(name: str, start: str) -> None:
    done = first(start, name)
    if isinstance(done, StageOrderError):
        assert name in str(done)
        assert "put " in str(done)
        assert "\n" not in str(done)
        return
    out = done.predict(PICTURES)
    assert out.shape == (16, 10)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", STAGES)
def test_every_layer_is_touched_or_skipped_for_a_reason(name: str) -> None:
    result = apply(base("folded"), name)
    layers = {layer.name for layer in base("folded").network.layers()}
    skipped = {skip.layer for skip in result.skipped}
    assert all(skip.reason and "\n" not in skip.reason for skip in result.skipped)
    assert not set(result.touched) & skipped
    # Those that work on the net or its batch norms, not on layers:
    if name not in ("FoldBatchNorm", "FineTune", "ReestimateBatchNorm"):
        assert set(result.touched) | skipped == layers
        assert result.touched or name == "AbsorbHighBias"  # this net has no high biases


@pytest.mark.parametrize("name", STAGES)
def test_the_word_structure_or_values_is_kept(name: str) -> None:
    for start in BASES:
        done = first(start, name)
        if isinstance(done, StageOrderError):
            continue
        before = base(start)
        if STAGES[name].changes == "values":  # type: ignore[attr-defined]
            added = done.edits[len(before.edits) :]
            assert done.edits[: len(before.edits)] == before.edits
            # One that trains on acting batch norms folds them itself, and changes nothing else.
            assert not added or name == "TrainInt8"
            assert all(isinstance(edit, FoldedBatchNorm) for edit in added)
            folds = base("folded") if added else before
            assert list(done.network.state()) == list(folds.network.state())
        else:
            assert done.edits[: len(before.edits)] == before.edits
            assert done.activations == before.activations


@pytest.mark.parametrize("start", BASES)
@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_every_ordered_pair_composes_or_says_where_it_belongs(
    one: str, two: str, start: str
) -> None:
    before = first(start, one)
    if isinstance(before, StageOrderError):
        assert start != "folded", before
        return
    done = attempted(before, two)
    if isinstance(done, StageOrderError):
        assert two in str(done)
        assert "\n" not in str(done)
        assert not _must_compose(one, two, start), done
        return
    assert not _must_refuse(one, two), f"{two} worked on values that {one} had encoded"
    out = done.predict(PICTURES)
    assert out.shape == (16, 10)
    assert np.isfinite(out).all()
    for name, encoding in before.encodings.items():
        zeros = encoding.zeros()
        kept = done.network.parameters()[name][zeros] == 0
        assert kept.all(), f"{two} lost {int((~kept).sum())} zeros that {one} made in {name}"


def _must_compose(one: str, two: str, start: str) -> bool:
    """On a folded net stages of values go in any order, and folding goes always."""
    both = {STAGES[n].changes for n in (one, two)} == {"values"}  # type: ignore[attr-defined]
    return start == "folded" and (both or two == "FoldBatchNorm")


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_says_that_it_encodes_it_does(name: str) -> None:
    done = first("folded", name)
    assert isinstance(done, Candidate)
    assert bool(done.encodings or done.activations) is getattr(STAGES[name], "encodes", False)


@pytest.mark.parametrize("start", BASES)
@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_what_is_refused_before_running_is_what_a_stage_refuses(
    one: str, two: str, start: str
) -> None:
    """No pair that works is forbidden, and no pair of encoded values is let through to run."""
    before = first(start, one)
    if isinstance(before, StageOrderError):
        return
    pair = [example(one), example(two)]
    if not _must_refuse(one, two):
        check_order(base(start), pair)
        return
    assert isinstance(attempted(before, two), StageOrderError)
    with pytest.raises(StageOrderError, match=f"{two} changes .* comes after {one}, ") as error:
        check_order(base(start), pair)
    assert "\n" not in str(error.value)


def _must_refuse(one: str, two: str) -> bool:
    encodes = getattr(STAGES[one], "encodes", False)
    structural = STAGES[two].changes == "structure"  # type: ignore[attr-defined]
    return encodes and structural and two != "FoldBatchNorm"


@pytest.mark.parametrize("name", STAGES)
def test_the_same_seed_gives_the_same_candidate(name: str) -> None:
    done = first("folded", name)
    assert isinstance(done, Candidate)
    torch.manual_seed(12345)  # a generator that somebody used meanwhile changes nothing
    state = torch.random.get_rng_state()
    numbers = np.random.get_state()[1]
    again = apply(base("folded"), name).candidate
    assert again.digest() == done.digest()
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)


# Those whose settings name an end; training, factorizing and calibrating go on from where they are.
@pytest.mark.parametrize("name", ["FoldBatchNorm", "PruneMagnitude", "ShareWeights"])
def test_the_same_stage_again_changes_nothing(name: str) -> None:
    once = first("folded", name)
    assert isinstance(once, Candidate)
    assert apply(once, name).candidate.digest() == once.digest()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("AdaRound", "calibration"),
        ("AbsorbHighBias", "calibration"),
        ("CorrectBias", "calibration"),
        ("Distill", "calibration"),
        ("FineTune", "finetune"),
        ("PruneChannels", "calibration"),
        ("PruneChannelsGradually", "finetune"),
        ("PruneGradually", "finetune"),
        ("QuantizeInt8", "calibration"),
        ("TrainInt8", "finetune"),
    ],
)
def test_what_the_task_lacks_is_said(name: str, part: str) -> None:
    poor = dataclasses.replace(task(), **{part: None})
    with pytest.raises(TaskError, match=f"{name} needs task.{part}"):
        example(name)(base("folded"), poor)
