"""Budgets over made-up sets, whose right answers can be found by trying."""

from __future__ import annotations

import functools
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.candidate import Candidate
from compress.errors import RangeError
from compress.pruning.choosing import Descent, Rules, Scope, fastest_within, within
from compress.pruning.costs import Costs
from compress.pruning.coupled import CoupledSet
from compress.pruning.ladders import ladders
from compress.pruning.losses import FixedLosses
from compress.spec import ModelSpec, TensorSpec

WIDTHS = (12, 8, 20)


class Chain(nn.Module):
    """Three hidden widths."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (5, *WIDTHS, 3)
        pairs = itertools.pairwise(sizes)
        self.layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def chain() -> nn.Module:
    return Chain()


def spec() -> ModelSpec:
    inputs = (TensorSpec("input", (1, 5), "float32"),)
    return ModelSpec(f"{__name__}:chain", inputs=inputs, classes=("a", "b", "c"))


@functools.cache
def candidate() -> Candidate:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Candidate.load(spec(), Chain())


def sets(classes: int = 1, multiple: int = 1) -> list[CoupledSet]:
    found: list[CoupledSet] = []
    for number, width in enumerate(WIDTHS):
        every = np.arange(width)[:, None]
        name, after = f"layers.{number}", f"layers.{number + 1}"
        slots = {(f"{name}.weight", 0): every, (f"{name}.bias", 0): every}
        slots[f"{after}.weight", 1] = every
        kinds = np.arange(width) % classes
        found.append(CoupledSet(name, (name,), width, slots, kinds, multiple, name))
    return found


def macs(widths: tuple[int, ...]) -> int:
    sizes = (5, *widths, 3)
    return sum(a * b for a, b in itertools.pairwise(sizes))


def descent(
    seed: int,
    scope: Scope = "global",
    round_to: int = 1,
    floor: float = 0.1,
    given: list[CoupledSet] | None = None,
) -> Descent:
    chosen = sets() if given is None else given
    rng = np.random.default_rng(seed)
    scores = FixedLosses({s.name: rng.exponential(size=s.channels) for s in chosen})
    net = candidate()
    costs = Costs(net, chosen, "macs")
    return Descent(ladders(net, chosen, round_to, floor), scores, costs, Rules(scope))


def widths_of(kept: dict[str, np.ndarray]) -> tuple[int, ...]:
    return tuple(
        len(kept.get(f"layers.{number}", range(width))) for number, width in enumerate(WIDTHS)
    )


@given(
    st.integers(0, 1000),
    st.floats(0.1, 0.99),
    st.sampled_from(["global", "uniform"]),
    st.sampled_from([1, 2, 4]),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_met_within_a_step_or_refused_with_the_nearest(
    seed: int, fraction: float, scope: Scope, round_to: int
) -> None:
    made = descent(seed, scope, round_to)
    refusal = ""
    try:
        kept = within(made, fraction, "asked")
    except RangeError as error:
        refusal = str(error)
    if refusal:
        least = float(refusal.split("nothing below ")[1].split(" ")[0])
        assert least > fraction
        assert "\n" not in refusal
        within(descent(seed, scope, round_to), least, "asked")  # the nearest is one
        return
    widths = widths_of(kept)
    assert macs(widths) == made.costs.now <= fraction * macs(WIDTHS)
    for width, whole in zip(widths, WIDTHS, strict=True):
        assert width == whole or width % round_to == 0
        assert width >= max(1, 0.1 * whole)
    if scope == "global" and made.steps:
        before = widths_of(made.kept(len(made.steps) - 1))
        assert macs(before) > fraction * macs(WIDTHS)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_within_a_set_the_dearest_stay(seed: int) -> None:
    made = descent(seed)
    for name, channels in within(made, 0.5, "asked").items():
        each = made.losses.each(name)
        gone = np.setdiff1d(np.arange(len(each)), channels)
        assert each[gone].max() <= each[channels].min()


def test_uniform_cuts_each_set_alike() -> None:
    widths = widths_of(within(descent(0, "uniform"), 0.4, "asked"))
    shares = [width / whole for width, whole in zip(widths, WIDTHS, strict=True)]
    assert max(shares) - min(shares) < 1 / min(WIDTHS)


def test_a_channel_of_no_worth_goes_first_and_dear_sets_stay() -> None:
    made = descent(0)
    scores = {s.name: np.full(s.channels, 1e9) for s in sets()}
    scores["layers.2"] = np.full(20, 1e-9)
    made.losses = FixedLosses(scores)
    assert widths_of(within(made, 0.7, "asked"))[:2] == WIDTHS[:2]


def test_classes_keep_the_numbers_that_the_net_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three classes as many as the pruned net takes of each; odd widths it cannot have."""
    given = sets(classes=3)

    def thirds(width: int) -> np.ndarray:
        return np.array([width - 2 * (width // 3), width // 3, width // 3])

    def takes(_: Candidate, asked: dict[str, int], whole: bool) -> SimpleNamespace:
        assert not whole
        even = {name: number // 2 * 2 for name, number in asked.items()}
        return SimpleNamespace(numbers=even, quotas={n: thirds(w) for n, w in even.items()})

    monkeypatch.setattr("compress.pruning.ladders.planned", takes)
    kept = within(descent(1, given=given), 0.5, "asked")
    for one, width in zip(given, widths_of(kept), strict=True):
        if width < one.channels:
            assert width % 2 == 0
            took = np.bincount(one.classes[kept[one.name]], minlength=3)
            np.testing.assert_array_equal(took, thirds(width))


def test_sets_of_a_bundle_are_cut_by_the_same_fraction() -> None:
    together = [
        CoupledSet(s.name, s.layers, s.channels, s.slots, s.classes, 2, "layers.0") for s in sets()
    ]
    made = descent(2, given=together)
    widths = widths_of(within(made, 0.5, "asked"))
    assert widths == (6, 4, 10)
    assert all(width % 2 == 0 for width in widths)


def test_latency_stops_where_the_measure_first_falls_to_the_limit() -> None:
    asked: list[int] = []

    def measure(kept: dict[str, np.ndarray]) -> float:
        asked.append(macs(widths_of(kept)))
        return asked[-1] / 10

    limit = macs(WIDTHS) / 10 * 0.6
    kept = fastest_within(descent(3), measure, limit, "asked")  # type: ignore[arg-type]
    assert macs(widths_of(kept)) / 10 <= limit
    assert len(asked) < 10
    made = descent(3)
    within(made, 0.6, "asked")
    np.testing.assert_array_equal(widths_of(kept), widths_of(made.kept()))
    with pytest.raises(RangeError, match=r"no less than .* ms can be reached"):
        fastest_within(descent(3), measure, 0.1, "asked")  # type: ignore[arg-type]


def test_floor_keeps_a_share_of_each_set() -> None:
    with pytest.raises(RangeError, match="nothing below"):
        within(descent(0, floor=0.9), 0.5, "asked")


def test_wide_sets_take_steps_of_several_channels() -> None:
    wide = CoupledSet("a", ("a",), 960, {}, np.zeros(960, np.int64), 1, "a")
    (ladder,) = ladders(candidate(), [wide], 1, 0.1)
    numbers = [rung.numbers[0] for rung in ladder.rungs]
    assert len(numbers) <= 128
    assert numbers == sorted(set(numbers), reverse=True)
    assert numbers[0] == 960
    assert numbers[-1] >= 96
