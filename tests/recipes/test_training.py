"""The training loop: the same bytes however often it was stopped; pictures augmented as said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from compress.candidate import Candidate
from compress.checkpoint import save_candidate
from compress.constrained import constrained
from compress.errors import CheckpointError
from compress.spec import Preprocess
from compress.task import Tuning
from recipes.toolbox import training
from recipes.toolbox.training import Trainer, augment
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
    keep = training._keep

    def dying(path: Path, model: nn.Module, optimizer: Any, done: int) -> None:
        keep(path, model, optimizer, done)
        if done == epoch:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(training, "_keep", dying)
        with pytest.raises(StoppedError):
            run()


def trained_module(settings: dict[str, Any], state: Path | None, seed: int = 0) -> dict[str, bytes]:
    model = dropping()
    trainer(**settings)(model, Tuning(EPOCHS, 1e-2, seed, state))
    return bytes_of(model.state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "weight_decay": 1e-3, "shift": 1, "flip": True},
        {"batch_size": 77, "shift": 2},
    ],
    ids=["adam", "sgd", "batches"],
)
def test_stopped_after_any_epoch_and_resumed(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained_module(settings, None)
    assert whole == trained_module(settings, tmp_path / "unused")
    assert whole != trained_module(settings, None, seed=1)
    for epoch in range(1, EPOCHS + 1):
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
    with training._fixed_order():
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


def test_no_batch_of_one_picture() -> None:
    train = digit_splits().train
    few = Trainer(train.images[:129], train.labels[:129], PREPROCESS)
    sizes = [len(labels) for _, labels in few._batches(np.random.default_rng(0))]
    assert sorted(sizes) == [64, 65]
    batches = list(few._batches(np.random.default_rng(0)))
    assert torch.cat([labels for _, labels in batches]).sort().values.tolist() == sorted(
        train.labels[:129].tolist()
    )


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


pictures = st.tuples(
    *(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)),
    *(st.sampled_from([(), (1,), (3,)]), st.integers(0, 2**32 - 1)),
)


def made(sizes: tuple[int, int, int, tuple[int, ...], int]) -> NDArray[np.uint8]:
    """Random pictures, (N, H, W) or (N, H, W, C), without zeros."""
    count, height, width, channels, seed = sizes
    shape = (count, height, width, *channels)
    return np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)


@given(pictures, st.integers(0, 99))
def test_no_augmentation_is_the_identity(sizes: Any, seed: int) -> None:
    pixels = made(sizes)
    np.testing.assert_array_equal(augment(pixels, 0, False, np.random.default_rng(seed)), pixels)


@given(pictures, st.integers(0, 99))
def test_flips_mirror_left_and_right(sizes: Any, seed: int) -> None:
    pixels = made(sizes)
    before = pixels.copy()
    for given_, found in zip(
        *(pixels, augment(pixels, 0, True, np.random.default_rng(seed))), strict=True
    ):
        same, mirrored = np.array_equal(found, given_), np.array_equal(found, given_[:, ::-1])
        assert same or mirrored
    np.testing.assert_array_equal(pixels, before)


@given(pictures, st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_crops_come_from_the_padded_picture(sizes: Any, shift: int, flip: bool, seed: int) -> None:
    pixels = made(sizes)
    found = augment(pixels, shift, flip, np.random.default_rng(seed))
    assert found.shape == pixels.shape
    assert found.dtype == np.uint8
    for i, (picture, crop) in enumerate(zip(pixels, found, strict=True)):
        sources = [picture, picture[:, ::-1]] if flip else [picture]
        assert any(np.array_equal(crop, c) for s in sources for c in crops(s, shift)), i


def crops(picture: NDArray[np.uint8], shift: int) -> Iterator[NDArray[np.uint8]]:
    """All crops of the picture in a frame of zeros, `shift` wide."""
    height, width = picture.shape[:2]
    frame = np.zeros((height + 2 * shift, width + 2 * shift, *picture.shape[2:]), np.uint8)
    frame[shift : shift + height, shift : shift + width] = picture
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            yield frame[top : top + height, left : left + width]


def test_every_shift_and_both_mirrors_occur() -> None:
    pixels = np.repeat(np.arange(1, 26, dtype=np.uint8).reshape(1, 5, 5), 2000, axis=0)
    found = augment(pixels, 1, True, np.random.default_rng(0))
    kinds, counts = np.unique(found.reshape(2000, -1), axis=0, return_counts=True)
    assert len(kinds) == 18
    assert counts.min() > 70
