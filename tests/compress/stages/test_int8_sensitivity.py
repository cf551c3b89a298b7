"""scan_int8: losses are those of the nets they say, the worst comes first, ways are measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.divergence import divergences
from compress.errors import RangeError, StageOrderError, TaskError
from compress.stages.correct_bias import CorrectBias
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.int8_losses import places
from compress.stages.int8_mending import Mending
from compress.stages.int8_sensitivity import Int8Sensitivity, sampled, scan_int8
from compress.stages.quantize_int8 import QuantizeInt8
from compress.task import Task
from tests.digits import Trained

PICTURES = 12


@pytest.fixture(scope="module")
def folded(trained_residual: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_residual).candidate, trained_residual.task)


@pytest.fixture(scope="module")
def found(folded: Trained) -> Int8Sensitivity:
    return scan_int8(*folded, QuantizeInt8("mse"), pictures=PICTURES, mend=2)


def judging(folded: Trained) -> np.ndarray:
    return sampled(*folded, PICTURES).judging


def few(folded: Trained) -> Task:
    return sampled(*folded, PICTURES).task(folded.task)


def kl(folded: Trained, other: Candidate) -> float:
    images = judging(folded)
    wanted = folded.candidate.network.predict(images)
    return float(divergences(wanted, other.predict(images)).mean())


def test_every_layer_and_every_sum_has_a_row(folded: Trained, found: Int8Sensitivity) -> None:
    names = [row.layer for row in found.layers]
    layers = [layer.name for layer in folded.candidate.network.layers()]
    assert set(layers) < set(names)
    assert {r.layer for r in found.layers if not r.weights} == {"/input#0", "/relu#1", "/mean#0"}
    assert not any("max_pool2d" in name or "flatten" in name for name in names)
    assert len(names) == len(set(names))
    losses = [row.alone_kl for row in found.layers]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0
    assert found.pictures == len(judging(folded)) <= PICTURES


def test_the_weights_alone_are_those_of_a_net_with_one_rounded_weight(
    folded: Trained, found: Int8Sensitivity
) -> None:
    candidate = folded.candidate
    int8 = QuantizeInt8("mse")(candidate, few(folded)).candidate
    theirs = int8.network.parameters()
    for layer in candidate.network.layers():
        row = next(r for r in found.layers if r.layer == layer.name)
        one = candidate.with_values({layer.weight: theirs[layer.weight]}, {})
        assert row.weights_kl == pytest.approx(kl(folded, one), rel=1e-2, abs=1e-7)
        own = candidate.network.parameters()[layer.weight]
        error = ((own - theirs[layer.weight]) ** 2).sum()
        assert row.weight_db == pytest.approx(10 * np.log10((own**2).sum() / error), abs=1e-3)
        assert row.weights == own.size
        assert row.macs > 0


def test_the_whole_net_is_the_stages_own(folded: Trained, found: Int8Sensitivity) -> None:
    int8 = QuantizeInt8("mse")(folded.candidate, few(folded)).candidate
    assert found.int8_kl == pytest.approx(kl(folded, int8), rel=0.3)
    assert found.int8_db is not None
    assert found.int8_db > 20
    assert "observer='mse'" in found.quantize


def test_noise_grows_along_the_net(found: Int8Sensitivity) -> None:
    """Of a layer's output in the int8 net at least what its own grid makes, to the last digit."""
    rows = [r for r in found.layers if r.output_db is not None and r.net_db is not None]
    assert len(rows) == len(found.layers)
    assert all(r.net_db <= r.output_db + 0.1 for r in rows if r.net_db and r.output_db)
    first = next(r for r in rows if r.layer == "/input#0")
    assert first.net_db == first.output_db
    assert sum(r.net_db < r.output_db - 3 for r in rows if r.net_db and r.output_db) >= 2


def test_a_layer_that_was_spoilt_comes_first(trained_plain: Trained) -> None:
    """A huge weight of a pixel that is always black: nothing but the grid is changed by it."""
    candidate, task = trained_plain
    weight = np.array(candidate.network.parameters()["fc1.weight"])
    weight[:, 0] = 40.0
    spoilt = candidate.with_values({"fc1.weight": weight}, {})
    found = scan_int8(spoilt, task, pictures=PICTURES, mend=1)
    (row, *rest) = found.layers
    assert row.layer == "fc1"
    assert row.weights_kl > 10 * max(r.alone_kl for r in rest)
    assert row.weights_kl > 10 * row.output_kl
    assert row.alone_kl == pytest.approx(found.int8_kl, rel=0.3)
    best = found.best("fc1")
    assert best is not None
    kept = next(m for m in found.mendings if m.way == "keep_float")
    assert kept.gain == pytest.approx(row.alone_kl - row.output_kl)
    assert best is kept or best.gain >= kept.gain / 2
    whole = scan_int8(*trained_plain, pictures=PICTURES, mend=0)
    assert whole.int8_kl < found.int8_kl / 10


def test_ways_are_measured_for_the_layers_and_for_the_whole_net(
    folded: Trained, found: Int8Sensitivity
) -> None:
    worst = [row.layer for row in found.layers[:2]]
    assert {m.layer for m in found.mendings} == set(worst)
    assert [m.layer for m in found.mendings] == sorted(
        (m.layer for m in found.mendings), key=worst.index
    )
    names = {way.way for way in found.ways}
    assert "QuantizeInt8(observer='minmax')" in names
    assert "QuantizeInt8(observer='mse')" not in names
    assert any(name.startswith("CorrectBias") for name in names)
    assert "AdaRound of these layers" in names
    assert {f"EqualizeRanges('{by}')" for by in ("weights", "activations", "loss")} <= names
    losses = [w.int8_kl for w in found.ways if w.int8_kl is not None]
    assert len(losses) == len(found.ways)
    assert losses == sorted(losses)
    minmax = QuantizeInt8()(folded.candidate, few(folded)).candidate
    way = next(w for w in found.ways if "minmax" in w.way)
    images = judging(folded)
    wanted, given = folded.candidate.predict(images), minmax.predict(images)
    sqnr_db = 10 * np.log10((wanted**2).sum() / ((wanted - given) ** 2).sum())
    assert way.int8_db == pytest.approx(sqnr_db, abs=0.5)
    for layer in worst:
        own = [m for m in found.mendings if m.layer == layer]
        row = next(r for r in found.layers if r.layer == layer)
        assert all(m.before_kl == row.alone_kl for m in own)
        assert [m.after_kl for m in own] == sorted(m.after_kl for m in own)
        best = found.best(layer)
        if own[0].way != "keep_float":
            assert best is None or best.after_kl == own[0].after_kl < row.alone_kl


def test_keep_float_is_named_only_where_it_saves_twice_as_much(found: Int8Sensitivity) -> None:
    layer = found.layers[0].layer

    def best(*ways: tuple[str, float]) -> str | None:
        mendings = tuple(Mending(layer, way, 1.0, after) for way, after in ways)
        named = replace(found, mendings=mendings).best(layer)
        return None if named is None else named.way

    assert best(("keep_float", 0.1), ("CorrectBias", 0.3)) == "CorrectBias"
    assert best(("keep_float", 0.1), ("CorrectBias", 0.7)) == "keep_float"
    assert best(("keep_float", 1.0), ("CorrectBias", 1.2)) is None
    assert best() is None


def test_a_wrapped_stage_is_varied_inside(folded: Trained) -> None:
    found = scan_int8(*folded, CorrectBias(QuantizeInt8("mse")), pictures=PICTURES, mend=1)
    assert found.quantize.startswith("CorrectBias(")
    names = {way.way for way in found.ways}
    assert "QuantizeInt8(observer='minmax')" in names
    assert not any(name.startswith("CorrectBias") for name in names)
    # The bias moves with the rounding, so the layer's part of the weights includes it.
    assert any(row.weights_kl > 0 for row in found.layers)


def test_a_net_that_is_float_throughout_loses_nothing(folded: Trained) -> None:
    names = tuple(layer.name for layer in folded.candidate.network.layers())
    found = scan_int8(*folded, QuantizeInt8(keep_float=names), pictures=4, mend=0)
    assert found.mendings == found.ways == ()
    layers = [row for row in found.layers if row.weights]
    assert all(row.weights_kl == 0 and row.weight_db is None for row in layers)


def test_tensors_of_a_tie_that_only_move_have_no_place(trained_branch: Trained) -> None:
    start = FoldBatchNorm()(*trained_branch).candidate
    int8 = QuantizeInt8()(start, trained_branch.task).candidate
    operators = {t.operator for place in places(int8) for t in place.tensors}
    assert "conv2d" in operators or "relu" in operators
    assert not operators & {"cat", "max_pool2d", "chunk", "view", "flatten"}
    taken = [t for place in places(int8) for t in place.tensors]
    assert len(taken) == len(set(taken))


def test_same_pictures_same_table(folded: Trained, found: Int8Sensitivity) -> None:
    again = scan_int8(*folded, QuantizeInt8("mse"), pictures=PICTURES, mend=0)
    assert again.layers == found.layers


@pytest.mark.parametrize("wrong", [{"pictures": 0}, {"pictures": 2.5}, {"mend": -1}])
def test_numbers_out_of_range(folded: Trained, wrong: dict[str, float]) -> None:
    with pytest.raises(RangeError, match=f"scan_int8\\({next(iter(wrong))}="):
        scan_int8(*folded, **wrong)  # type: ignore[arg-type]


def test_what_cannot_be_scanned(folded: Trained) -> None:
    candidate, task = folded
    int8 = QuantizeInt8()(candidate, task).candidate
    with pytest.raises(StageOrderError, match="quantized already"):
        scan_int8(int8, task)
    with pytest.raises(RangeError, match="scan_int8"):
        scan_int8(candidate, task, FoldBatchNorm())
    with pytest.raises(TaskError, match=r"scan_int8 needs task\.calibration"):
        scan_int8(candidate, replace(task, calibration=None))
    with pytest.raises(TaskError, match="gave no batches"):
        scan_int8(candidate, replace(task, calibration=list))


def test_a_way_that_cannot_be_tried_says_why(
    folded: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: CorrectBias, candidate: Candidate, task: Task) -> None:
        del self, candidate, task
        raise TaskError("no such luck")

    monkeypatch.setattr(CorrectBias, "__call__", refuse)
    found = scan_int8(*folded, pictures=PICTURES, mend=1)
    last = found.ways[-1]
    assert (last.way, last.int8_kl, last.reason) == ("CorrectBias", None, "no such luck")
    assert not any(m.way == "CorrectBias" for m in found.mendings)
