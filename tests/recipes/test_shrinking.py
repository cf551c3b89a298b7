"""The parts of shrink: what answers are worth, the ladder, which files are timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import ModelError
from compress.network import LayerInfo
from compress.spec import Preprocess
from recipes.shrinking.answers import Original, answers_of
from recipes.shrinking.choice import why_not_timed
from recipes.shrinking.ladder import FP32, INT8, LADDER, bits_by_layer, is_hopeless
from recipes.shrinking.material import Shown
from recipes.shrinking.trial import Trial
from recipes.shrinking.wish import Wish
from targets.artifact import Artifact
from targets.rows import Score
from tests.reports import sha

SHOWN = Shown(np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 2, 0]))
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.45, 0.10, 0.45 - 1e-9], [0.2, 0.3, 0.5]]
)


def original(labels: NDArray[np.int64] | None = None) -> Original:
    return Original(np.log(PROBABILITIES).astype(np.float32), labels)


def test_the_estimated_drop_is_what_the_changed_answers_cost() -> None:
    """Original says 0, 1, 0, 2; another says 0, 2, 2, 2: costs 0, 0.3, 0, 0."""
    score = original().score(np.array([0, 2, 2, 2]), "")
    assert score.agreement == 0.5
    # The standard error of the mean of three zeros and 0.3 is 0.3 / 4.
    assert score.estimated_drop == pytest.approx(0.3 / 4 + 1.96 * 0.3 / 4, abs=1e-6)
    assert (score.top1, score.won, score.lost) == (None, None, None)
    assert original().estimated_drop(np.array([0, 1, 0, 2])) == 0.0


def test_a_net_that_ends_in_softmax_gives_the_same_estimate() -> None:
    soft = Original(PROBABILITIES.astype(np.float32), None)
    answers = np.array([1, 2, 0, 0])
    assert soft.estimated_drop(answers) == pytest.approx(original().estimated_drop(answers), 1e-5)


def test_no_answer_agrees_with_nothing_and_costs_all() -> None:
    def broken(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full((len(batch), 3), np.nan, np.float32)

    answers = answers_of(broken, SHOWN, Preprocess(), "asking")
    assert answers.tolist() == [-1] * 4
    assert original().score(answers, "").agreement == 0.0
    costs = PROBABILITIES.max(axis=1)
    expected = costs.mean() + 1.96 * costs.std(ddof=1) / 2
    assert original().estimated_drop(answers) == pytest.approx(expected, 1e-5)


def test_with_labels_pictures_won_and_lost_are_counted() -> None:
    """Original right on pictures 0 and 1; the other on 0 and 2."""
    held = original(np.array([0, 1, 2, 0])).held_out(np.array([0, 2, 2, 2]))
    assert (held.top1, held.top1_fp32, held.won, held.lost, held.samples) == (0.5, 0.5, 1, 1, 4)


def test_an_original_without_numbers_is_refused() -> None:
    def broken(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full((len(batch), 3), np.inf, np.float32)

    with pytest.raises(ModelError, match="NaN or infinity"):
        Original.on(broken, SHOWN, Preprocess(), "asking")


def layer(name: str, role: str) -> LayerInfo:
    return LayerInfo(name, role, f"{name}.weight", None, 0, 1, (8, 8, 3, 3))  # type: ignore[arg-type]


def test_the_first_and_depthwise_layers_keep_eight_bits() -> None:
    layers = [layer("stem", "conv"), layer("a.dw", "depthwise"), layer("fc", "classifier")]
    assert bits_by_layer(layers, 5) == (("stem", 8), ("a.dw", 8), ("*", 5))
    assert bits_by_layer(layers[:1], 4) == (("stem", 8), ("*", 4))


def test_the_ladder_falls_and_starts_from_rungs_before() -> None:
    known = [rung.label for rung in LADDER]
    assert LADDER[0] is FP32
    assert len(set(known)) == len(known)
    for number, rung in enumerate(LADDER[1:], 1):
        assert rung.start in known[:number]
        if "dc" in rung.formats:  # it is scored by the packed file before it
            assert rung.formats.index("onnx-packed") < rung.formats.index("dc")
    for start in ("fp32", "int8"):
        bits = [rung.bits for rung in LADDER if rung.start == start and rung.bits]
        assert bits == sorted(bits, reverse=True)


def test_hope_ends_far_below_what_is_allowed() -> None:
    assert not is_hopeless(0.019, 0.001)
    assert is_hopeless(0.021, 0.01)
    assert not is_hopeless(0.09, 0.05)


def trial(label: str, lost: float, size: int, form: str = "onnx") -> Trial:
    path = Path(f"{label}.{form}")
    artifact = Artifact(path, form, "int8", sha(label), size, (), (), "")
    score = Score(None, 100, agreement=1 - lost, estimated_drop=lost)
    rung = FP32 if label == "fp32" else replace(INT8, label=label)
    return Trial(rung, None, artifact, artifact, score)  # type: ignore[arg-type]


def reasons(wish: Wish) -> list[str]:
    trials = [
        trial("fp32", 0.0, 4000),
        trial("int8", 0.004, 1000),
        trial("six", 0.02, 900),
        trial("four", 0.3, 600),
        trial("four", 0.3, 500, "dc"),
    ]
    return [why_not_timed(t, trials, wish, None) for t in trials]


def test_only_what_may_be_shipped_is_timed() -> None:
    found = reasons(Wish("m.onnx", Path("p"), Path("o")))
    assert found[:2] == ["", ""]
    assert found[2] == "not timed: it loses an estimated 2.00 points of top-1, 1.00 are allowed"
    assert found[3].startswith("not timed: it loses an estimated 30.00 points")
    assert found[4].startswith("no stock runtime loads")
    within = reasons(Wish("m.onnx", Path("p"), Path("o"), budget_bytes=900))
    assert [bool(reason) for reason in within] == [False, True, False, False, True]
    assert within[1] == "not timed: it has 1.00 kB, 900 B are allowed"


def test_the_nearest_is_timed_where_nothing_passes() -> None:
    strict = reasons(Wish("m.onnx", Path("p"), Path("o"), max_drop=0.0))
    assert [bool(reason) for reason in strict] == [False, False, True, True, True]
