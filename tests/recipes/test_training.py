"""The training loop: the same bytes however often it was stopped; pictures augmented as said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.candidate import Candidate
from compress.checkpoint import save_candidate
from compress.constrained import constrained
from compress.errors import CheckpointError, DataError, EdgepressError, RangeError
from compress.spec import Preprocess
from compress.task import Tuning
from recipes.toolbox import training
from recipes.toolbox.training import Trainer
from tests.candidates import fresh, half_mask, int8, shared
from tests.nets import digits_residual_spec
from tests.recipes.pictures import digit_splits

EPOCHS = 3
PREPROCESS = Preprocess(channel_order="GREY", scale=1 / 16)


class StoppedError(Exception):
    """The process was killed."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """What two threads make of a sum is where repeatability fails first."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trainer(**settings: Any) -> Trainer:
    train = digit_splits().train
    return Trainer(train.images[:385], train.labels[:385], PREPROCESS, **settings)


def dropping() -> nn.Module:
    """Batch norm and dropout: state beside the parameters, and randomness inside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Flatten(), nn.Linear(288, 10)),
        ).train()


def bytes_of(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def stopped_after(epoch: int, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """Run, and die as soon as the state after `epoch` epochs is written."""
    keep = training.keep

    def dying(path: Path, model: nn.Module, optimizing: Any, done: int) -> None:
        keep(path, model, optimizing, done)
        if done == epoch:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(training, "keep", dying)
        with pytest.raises(StoppedError):
            run()


def trained_module(settings: dict[str, Any], state: Path | None, seed: int = 0) -> dict[str, bytes]:
    model = dropping()
    trainer(**settings)(model, Tuning(EPOCHS, 1e-2, seed, state))
    return bytes_of(model.state_dict())


TEACHER = Candidate.untrained(digits_residual_spec(), 0)


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        ({}, (1, 2, 3)),
        ({"optimizer": "sgd", "weight_decay": 1e-3, "shift": 1, "flip": True}, (1, 2, 3)),
        ({"batch_size": 77, "shift": 2}, (1, 2, 3)),
        ({"optimizer": "adam-sgd", "rate": "one-cycle"}, (1, 2, 3)),
        ({"optimizer": "adam-sgd", "sgd_rate": 0.02, "switch": 0.3}, (1, 2)),
        ({"mixup": 0.4, "class_weights": "balanced", "label_smoothing": 0.1}, (2,)),
        ({"crop": 0.3, "brightness": 0.4, "contrast": 0.4, "flip": True, "shift": 1}, (2,)),
        ({"sampling": "over", "class_weights": tuple(range(1, 11))}, (2,)),
        ({"sampling": "under", "mixup": 1.0}, (2,)),
        ({"frozen": ("0", "1"), "warm_up": 0.2}, (2,)),
        ({"teacher": TEACHER, "temperature": 2.0}, (2,)),
        ({"channels_last": True}, (2,)),
    ],
    ids=[
        *("adam", "sgd", "batches", "adam-sgd", "adam-sgd at a rate", "mixup", "augmented"),
        *("over-sampled", "under-sampled", "frozen", "taught", "channels last"),
    ],
)
def test_stopped_after_any_epoch_and_resumed(
    settings: dict[str, Any],
    stops: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = trained_module(settings, None)
    if len(stops) == EPOCHS:
        assert whole == trained_module(settings, tmp_path / "unused")
    assert whole != trained_module(settings, None, seed=1)
    for epoch in stops:
        state = tmp_path / f"{epoch}.progress"
        stopped_after(epoch, monkeypatch, lambda s=state: trained_module(settings, s))
        torch.manual_seed(epoch)  # the generator's state is nothing that it depends on
        assert trained_module(settings, state) == whole, epoch
    assert not list(tmp_path.glob(".*"))


def encoded() -> Candidate:
    """A mask, shared values and the full int8 grid in one net, with batch norm."""
    candidate = fresh(digits_residual_spec)
    shapes = {n: p.shape for n, p in candidate.network.parameters().items()}
    encodings = {
        "conv1.weight": half_mask(shapes["conv1.weight"]),
        "conv2.weight": shared(shapes["conv2.weight"]),
        "widen.0.weight": int8(shapes["widen.0.weight"]),
    }
    return candidate.with_values({}, encodings)


def trained_candidate(candidate: Candidate, state: Path | None, folder: Path) -> bytes:
    with constrained(candidate) as tuned:
        trainer(shift=1)(tuned.model, Tuning(EPOCHS, 1e-2, 0, state))
    tuned.result.check()
    save_candidate(tuned.result, folder / "result.safetensors")
    return (folder / "result.safetensors").read_bytes()


def test_constrained_nets_are_resumed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = encoded()
    whole = trained_candidate(candidate, None, tmp_path)
    save_candidate(candidate, tmp_path / "before.safetensors")
    assert whole != (tmp_path / "before.safetensors").read_bytes()
    for epoch in range(1, EPOCHS + 1):
        state = tmp_path / f"{epoch}.progress"
        stopped_after(
            *(epoch, monkeypatch, lambda s=state: trained_candidate(candidate, s, tmp_path))
        )
        assert trained_candidate(candidate, state, tmp_path) == whole, epoch


def test_gradients_of_shared_weights_are_summed_in_a_fixed_order() -> None:
    """400,000 weights on 16 values: two threads that add as they come differ within a few runs."""
    indices = torch.randint(0, 16, (500, 800), generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(500, 800, generator=torch.Generator().manual_seed(1))
    seen: set[bytes] = set()
    with training._fixed_order(torch.device("cpu")):
        for _ in range(20):
            codebook = torch.zeros(16, requires_grad=True)
            codebook[indices].backward(gradient)
            assert codebook.grad is not None
            seen.add(codebook.grad.numpy().tobytes())
    assert len(seen) == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_learns_and_the_rate_falls_to_nothing() -> None:
    model = dropping()
    train = digit_splits().train
    rates: list[float] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim.Adam, "step", watched)
        Trainer(train.images, train.labels, PREPROCESS, batch_size=64)(
            model, Tuning(6, 1e-2, 0, None)
        )
    assert rates[0] == 1e-2
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 1e-4
    test = digit_splits().test
    with torch.inference_mode():
        found = model.eval()(torch.from_numpy(PREPROCESS.normalise(test.images))).argmax(1)
    assert float((found.numpy() == test.labels).mean()) > 0.9


def test_bfloat16_computes_coarsely_and_keeps_float32_weights() -> None:
    seen: list[torch.dtype] = []
    nets: dict[str, nn.Module] = {}
    for precision in ("float32", "bfloat16"):
        model = dropping()
        model[0].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
        trainer(precision=precision)(model, Tuning(EPOCHS, 1e-2, 0, None))
        nets[precision] = model
    assert set(seen[: len(seen) // 2]) == {torch.float32}
    assert set(seen[len(seen) // 2 :]) == {torch.bfloat16}
    fine, coarse = (dict(nets[name].named_parameters()) for name in ("float32", "bfloat16"))
    assert {p.dtype for p in coarse.values()} == {torch.float32}
    assert all(not torch.equal(fine[name], coarse[name]) for name in fine)
    test = digit_splits().test
    pictures = torch.from_numpy(PREPROCESS.normalise(test.images))
    right = [
        (net.eval()(pictures).argmax(1).numpy() == test.labels).mean() for net in nets.values()
    ]
    assert min(right) > 0.8
    assert abs(right[0] - right[1]) < 0.05


def test_no_batch_of_one_picture() -> None:
    train = digit_splits().train
    few = Trainer(train.images[:129], train.labels[:129], PREPROCESS)
    plans = list(few.planner.plans(np.random.default_rng(0)))
    assert sorted(len(plan.chosen) for plan in plans) == [64, 65]
    assert sorted(np.concatenate([plan.chosen for plan in plans]).tolist()) == list(range(129))


ALLOWED: dict[str, tuple[Any, str]] = {
    "optimizer": ("lion", "adam, sgd, adam-sgd"),
    "rate": ("step", "cosine, linear, one-cycle"),
    "sampling": ("both", "all, over, under"),
    "device": ("tpu", "cpu, cuda, mps, auto"),
    "precision": ("float16", "float32, bfloat16"),
    "batch_size": (0, "whole numbers from 1"),
    "readers": (1.5, "whole numbers from 1"),
    "shift": (-1, "whole numbers from 0"),
    "warm_up": (1.0, r"numbers in \[0, 1\)"),
    "label_smoothing": (-0.1, r"numbers in \[0, 1\)"),
    "brightness": (float("nan"), r"numbers in \[0, 1\)"),
    "contrast": (True, r"numbers in \[0, 1\)"),
    "weight_decay": (float("inf"), "finite numbers from 0"),
    "mixup": ("yes", "finite numbers from 0"),
    "flip": (1, "True, False"),
    "channels_last": (None, "True, False"),
    "crop": (0.0, r"numbers in \(0, 1\]"),
    "switch": (1.0, r"numbers in \(0, 1\)"),
    "temperature": (0, "finite numbers over 0"),
    "sgd_rate": (0.0, "None, finite numbers over 0"),
    "alpha": (1.1, r"None, numbers in \[0, 1\]"),
    "class_weights": ((1.0, 0.0), "one for each class"),
    "frozen": ("stem", "a tuple of names"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_settings_that_are_not_allowed(name: str) -> None:
    value, allowed = ALLOWED[name]
    with pytest.raises(
        RangeError, match=rf"Trainer\({name}=.*\): allowed are .*{allowed}"
    ) as found:
        trainer(**{name: value})
    assert "\n" not in str(found.value)


def test_every_setting_is_checked() -> None:
    data = {"pixels", "labels", "preprocess", "teacher"}
    assert {field.name for field in fields(Trainer)} - data == set(ALLOWED)


def test_pictures_and_labels_that_do_not_fit() -> None:
    train = digit_splits().train
    pixels, labels = train.images[:20], train.labels[:20]
    with pytest.raises(DataError, match="20 pictures with 19 labels"):
        Trainer(pixels, labels[:19], PREPROCESS)
    with pytest.raises(DataError, match="no pictures to train on"):
        Trainer(pixels[:0], labels[:0], PREPROCESS)
    with pytest.raises(DataError, match="has label -1; classes count from 0"):
        Trainer(pixels, labels - labels.min() - 1, PREPROCESS)
    with pytest.raises(RangeError, match="without labels a teacher is needed"):
        Trainer(pixels, None, PREPROCESS)
    teacher = fresh(digits_residual_spec)
    for setting in ({"alpha": 0.5}, {"class_weights": "balanced"}, {"sampling": "over"}):
        with pytest.raises(RangeError, match=r"leave .* out"):
            Trainer(pixels, None, PREPROCESS, teacher=teacher, **setting)


@pytest.mark.parametrize(
    ("labels", "settings", "words"),
    [
        (10, {}, "has label 10, the net puts out 10 classes from 0"),
        (0, {"class_weights": (1.0, 2.0)}, "has 2 class_weights, the net puts out 10 classes"),
        (0, {"teacher": lambda batch: np.zeros((len(batch), 3))}, "teacher puts out 3 classes"),
    ],
)
def test_what_does_not_fit_the_net_is_told_before_the_first_step(
    labels: int, settings: dict[str, Any], words: str
) -> None:
    model = dropping()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    pixels = digit_splits().train.images[:8]
    with pytest.raises(EdgepressError, match=words):
        Trainer(pixels, np.full(8, labels), PREPROCESS, **settings)(model, Tuning(1, 1e-2, 0, None))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what must be missing")
def test_a_device_that_is_not_here() -> None:
    with pytest.raises(RangeError, match=r"'cuda' .* is not on this machine; there are: cpu"):
        trained_module({"device": "cuda"}, None)


def progress_of(path: Path) -> dict[str, Any]:
    """The state after one epoch."""
    Trainer(digit_splits().train.images[:64], digit_splits().train.labels[:64], PREPROCESS)(
        dropping(), Tuning(1, 1e-2, 0, path)
    )
    return torch.load(path, weights_only=True)


class Hostile:
    """Writes a file when it is unpickled as pickle would."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.marker, "executed"))


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "no archive",
        "empty",
        "pickle",
        "list",
        "no model",
        "other model",
        "wide",
        "late epoch",
        "no epoch",
        "true epoch",
        "groups",
    ],
)
def test_damaged_states(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.progress"
    state = progress_of(path)
    content = path.read_bytes()
    changes: dict[str, Any] = {
        "pickle": {**state, "epoch": Hostile(tmp_path / "marker")},
        "list": [1, 2],
        "no model": {"epoch": 1, "optimizer": state["optimizer"]},
        "other model": {**state, "model": nn.Linear(2, 2).state_dict()},
        "wide": {**state, "model": {**state["model"], "0.bias": torch.zeros(9)}},
        "late epoch": {**state, "epoch": EPOCHS + 1},
        "no epoch": {**state, "epoch": "1"},
        "true epoch": {**state, "epoch": True},
        "groups": {**state, "optimizer": {"state": {}, "param_groups": []}},
    }
    if damage in changes:
        torch.save(changes[damage], path)
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "no archive": b"no", "empty": b""}[damage]
        )
    with pytest.raises(CheckpointError, match="delete it") as raised:
        trained_module({}, path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "marker").exists()
