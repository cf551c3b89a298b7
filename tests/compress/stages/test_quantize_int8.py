"""QuantizeInt8: the net keeps its accuracy on integers; what is on a grid already stays."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.affine import affine_grid
from compress.calibrate import BINS, Calibrator
from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.errors import RangeError, StageOrderError, TaskError
from compress.graph import TensorId
from compress.placement import place
from compress.simulate import simulate
from compress.spec import ModelSpec, TensorSpec
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Task
from tests.digits import Trained

INPUT = TensorId("", "input")


@pytest.fixture(scope="module")
def folded(trained_net: Trained) -> Trained:
    return Trained(FoldBatchNorm()(*trained_net).candidate, trained_net.task)


@pytest.fixture(scope="module")
def int8(folded: Trained) -> Candidate:
    return QuantizeInt8()(*folded).candidate


def encoded(candidate: Candidate, name: str) -> Encoded:
    found = candidate.encodings[name]
    assert isinstance(found, Encoded)
    return found


def pictures(task: Task) -> np.ndarray:
    return np.concatenate(list(task.need_calibration("test")()))


def sqnr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()))


@pytest.mark.parametrize("net", ["trained_residual", "trained_branch", "trained_plain"])
@pytest.mark.parametrize(
    "stage",
    [QuantizeInt8(), QuantizeInt8("percentile", percentile=99.9), QuantizeInt8("mse")],
    ids=lambda stage: stage.observer,
)
def test_the_accuracy_holds_on_integers(
    net: str, stage: QuantizeInt8, request: pytest.FixtureRequest
) -> None:
    candidate, task = request.getfixturevalue(net)
    start = FoldBatchNorm()(candidate, task).candidate
    result = stage(start, task)
    result.candidate.check()
    assert result.touched == tuple(layer.name for layer in start.network.layers())
    assert result.skipped == ()
    score = task.evaluate(simulate(result.candidate).predict)["top1"]
    assert score >= task.evaluate(candidate.predict)["top1"] - 0.01
    images = pictures(task)
    found, wanted = simulate(result.candidate).predict(images), start.predict(images)
    assert sqnr_db(found, wanted) > 25
    assert not np.array_equal(found, wanted)


def test_weights_lie_on_a_symmetric_grid_for_each_channel(folded: Trained, int8: Candidate) -> None:
    own = folded.candidate.network.parameters()
    for layer in folded.candidate.network.layers():
        code, weight = encoded(int8, layer.weight), own[layer.weight]
        assert code.axis == 0
        assert code.codebook.size == 256
        integers = code.integers().astype(int)
        assert np.abs(integers.reshape(len(integers), -1)).max(axis=1).tolist() == [127] * len(
            integers
        )
        step = code.broadcast_scale()
        assert (np.abs(code.decode() - weight) <= step * 0.5001).all()
        assert np.array_equal(code.indices.view(np.int8), code.integers())


def test_one_scale_for_all_channels(folded: Trained) -> None:
    result = QuantizeInt8(per_channel=False)(*folded).candidate
    result.check()
    for layer in folded.candidate.network.layers():
        code = encoded(result, layer.weight)
        assert code.axis is None
        assert code.scale.shape == (1,)
        assert np.abs(code.integers().astype(int)).max() == 127


@pytest.mark.parametrize("net", ["trained_residual", "trained_branch"])
def test_grids_cover_what_was_seen(net: str, request: pytest.FixtureRequest) -> None:
    candidate, task = request.getfixturevalue(net)
    start = FoldBatchNorm()(candidate, task).candidate
    result = QuantizeInt8()(start, task).candidate
    placement = place(start.network.graph)
    assert tuple(result.activations) == placement.points
    assert result.ties == placement.ties
    seen = start.network.activations(pictures(task))
    group = {tensor: tie for tie in placement.ties for tensor in tie}
    for tensor, grid in result.activations.items():
        members = [seen[t] for t in group.get(tensor, {tensor})]
        low, high = min(m.min() for m in members), max(m.max() for m in members)
        scale, zero_point = affine_grid(float(low), float(high))
        assert (grid.scale, grid.zero_point) == (float(scale), zero_point)
        assert float(np.float32(grid.scale)) == grid.scale
        assert grid.bits == 8
        assert grid.observer == "minmax"
    for tie in placement.ties:
        assert len({result.activations[tensor] for tensor in tie}) == 1


def test_percentile_100_is_minmax(folded: Trained, int8: Candidate) -> None:
    result = QuantizeInt8("percentile", percentile=100)(*folded).candidate
    grids = {t: replace(g, observer="minmax") for t, g in result.activations.items()}
    assert grids == int8.activations
    assert result.activations[INPUT].observer == "percentile 100"


def test_percentiles_are_those_of_all_the_values(folded: Trained) -> None:
    candidate, task = folded
    graph, shape = candidate.network.graph, candidate.network.input_shape
    calibrator = Calibrator(graph, task.need_calibration("test"), shape, "test")
    found, whole = calibrator.percentile(99), calibrator.minmax()
    seen = candidate.network.activations(pictures(task))
    narrower = 0
    for output in graph.outputs:  # what is cut off there is the first class of the surest answers
        assert found.pop(output) == whole[output] == calibrator.mse()[output]
    for tensor, (low, high) in found.items():
        width = (whole[tensor][1] - whole[tensor][0]) / BINS
        exact = np.percentile(seen[tensor], [0.5, 99.5], method="inverted_cdf")
        assert low == pytest.approx(float(exact[0]), abs=1.01 * width)
        assert high == pytest.approx(float(exact[1]), abs=1.01 * width)
        narrower += high < whole[tensor][1]
    assert narrower > len(found) // 2


def test_mse_grids_err_least(folded: Trained) -> None:
    candidate, task = folded
    graph, shape = candidate.network.graph, candidate.network.input_shape
    calibrator = Calibrator(graph, task.need_calibration("test"), shape, "test")
    found, whole = calibrator.mse(), calibrator.minmax()
    seen = candidate.network.activations(pictures(task))
    narrower = 0
    assert {TensorId("stem.2", "relu"), INPUT} <= found.keys() < whole.keys()
    for tensor in found:
        near, wide = (_error(seen[tensor], *ranges[tensor]) for ranges in (found, whole))
        # step^2 / 12 is the error of values spread evenly over a step, which few pixels are not.
        assert near <= 1.05 * wide
        narrower += near < 0.9 * wide
    assert narrower
    stage = QuantizeInt8("mse")(candidate, task).candidate
    assert stage.activations[INPUT].observer == "mse"


def _error(values: np.ndarray, low: float, high: float) -> float:
    scale, zero = affine_grid(low, high)
    codes = np.clip(np.rint(values / scale) + zero, 0, 255)
    return float(((values - (codes - zero) * scale) ** 2).mean())


def test_integer_weights_stay_as_they_are(folded: Trained, int8: Candidate) -> None:
    again = QuantizeInt8()(int8, folded.task)
    assert again.touched == ()
    assert {s.reason for s in again.skipped} == {"its weights are integers already"}
    for name in int8.encodings:
        assert again.candidate.encodings[name] is int8.encodings[name]
    before, after = int8.network.parameters(), again.candidate.network.parameters()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_float_weights_on_a_grid_keep_their_values(folded: Trained, int8: Candidate) -> None:
    plain = replace(int8, encodings={}, activations={}, ties=())
    result = QuantizeInt8()(plain, folded.task).candidate
    for name, old in int8.encodings.items():
        assert np.array_equal(encoded(result, name).indices, encoded(int8, name).indices)
        assert np.array_equal(encoded(result, name).scale, encoded(int8, name).scale)
        assert old.shape == result.encodings[name].shape
    images = pictures(folded.task)
    assert np.array_equal(plain.predict(images), result.network.predict(images))


def test_pruned_zeros_stay(trained_net: Trained) -> None:
    candidate, task = trained_net
    pruned = PruneMagnitude(0.6)(candidate, task).candidate
    start = FoldBatchNorm()(pruned, task).candidate
    result = QuantizeInt8()(start, task).candidate
    for name, mask in start.encodings.items():
        assert (encoded(result, name).integers()[mask.zeros()] == 0).all()


@pytest.mark.parametrize("per_channel", [True, False])
def test_shared_weights_keep_their_indices(trained_net: Trained, per_channel: bool) -> None:
    candidate, task = trained_net
    shared = ShareWeights(5)(PruneMagnitude(0.5)(candidate, task).candidate, task).candidate
    start = FoldBatchNorm()(shared, task).candidate
    result = QuantizeInt8(per_channel=per_channel)(start, task).candidate
    result.check()
    for name in start.encodings:
        old, new = encoded(start, name), encoded(result, name)
        assert np.array_equal(new.indices, old.indices)
        assert new.on_integers
        assert new.codebook.shape == old.codebook.shape
        assert np.abs(new.codebook.astype(int)).max() == 127
        step = np.abs(new.broadcast_scale())
        assert (np.abs(new.decode() - old.decode()) <= step * 0.5001).all()
    score = task.evaluate(simulate(result).predict)["top1"]
    assert score >= task.evaluate(start.predict)["top1"] - 0.02


def test_a_float_classifier(folded: Trained) -> None:
    candidate, task = folded
    result = QuantizeInt8(keep_float=("fc",))(candidate, task)
    result.candidate.check()
    graph = candidate.network.graph
    assert result.candidate.float_nodes == ("fc",)
    assert "fc.weight" not in result.candidate.encodings
    assert [(s.layer, s.reason) for s in result.skipped] == [("fc", "kept in float")]
    assert set(place(graph).points) - set(result.candidate.activations) == {graph.outputs[0]}
    images = pictures(task)
    output = simulate(result.candidate).predict(images)
    assert np.unique(output).size > 256  # float logits
    all_int8 = simulate(QuantizeInt8()(candidate, task).candidate).predict(images)
    assert np.unique(all_int8).size <= 256


def test_a_float_first_layer_reads_the_picture_as_it_is(folded: Trained) -> None:
    candidate, task = folded
    result = QuantizeInt8(keep_float=("stem.0",))(candidate, task).candidate
    assert INPUT not in result.activations
    assert TensorId("stem.2", "relu") in result.activations  # others read it as integers


def test_float_layers_in_a_row_hand_on_floats(trained_plain: Trained) -> None:
    candidate, task = trained_plain
    result = QuantizeInt8(keep_float=("fc1", "classifier"))(candidate, task).candidate
    assert result.float_nodes == ("fc1", "fc2")
    assert result.activations == {}
    assert result.encodings == {}


def test_ties_with_a_float_layer_stay_ties(trained_branch: Trained) -> None:
    candidate, task = trained_branch
    start = FoldBatchNorm()(candidate, task).candidate
    result = QuantizeInt8(keep_float=("depthwise", "units.0.branch.0"))(start, task).candidate
    result.check()
    missing = set(place(start.network.graph).points) - set(result.activations)
    # Only between the two float layers does a tensor need no grid.
    assert missing == {TensorId("units.0.branch.2", "relu")}
    assert result.ties == place(start.network.graph).ties
    score = task.evaluate(simulate(result).predict)["top1"]
    assert score >= task.evaluate(start.predict)["top1"] - 0.01


def test_float_for_integers_is_refused(folded: Trained, int8: Candidate) -> None:
    with pytest.raises(RangeError, match="'fc' has integer weights already"):
        QuantizeInt8(keep_float=("fc",))(int8, folded.task)


@pytest.mark.parametrize("sharing", [False, True])
def test_a_nearly_dead_channel_keeps_its_bias(folded: Trained, sharing: bool) -> None:
    """Its weights are so small that the bias would overflow an int32 of scale s_x * s_w."""
    candidate, task = folded
    own = candidate.network.parameters()
    weight, bias = own["conv1.weight"].copy(), own["conv1.bias"].copy()
    if sharing:
        start = ShareWeights(4, include=("conv1",))(candidate, task).candidate
        factor = np.ones(16, np.float32)
        factor[2] = 1e-12
        dead = encoded(start, "conv1.weight").scaled(0, factor)
        bias[2] = 0.5
        start = start.with_values({"conv1.bias": bias}, {"conv1.weight": dead})
    else:
        weight[2] *= 1e-12
        bias[2] = 0.5
        start = candidate.with_values({"conv1.weight": weight, "conv1.bias": bias}, {})
    result = QuantizeInt8()(start, task).candidate
    result.check()
    found = simulate(result).activations(pictures(task))[TensorId("", "relu")]
    assert np.allclose(found[:, 2], 0.5, atol=result.activations[TensorId("", "relu")].scale)


def test_runtimes_get_positive_scales() -> None:
    code = Encoded(
        np.array([[0, 1, 2], [2, 1, 0]], np.uint8),
        np.array([0, -7, 127], np.int8),
        np.array([0.5, -0.25], np.float32),
        0,
    )
    integers, scale = code.runtime_form()
    assert integers.dtype == np.int8
    assert (scale > 0).all()
    assert np.array_equal(integers * scale[:, None], code.decode())


def test_batch_norm_must_be_folded(trained_net: Trained) -> None:
    with pytest.raises(StageOrderError, match=r"put FoldBatchNorm before QuantizeInt8") as caught:
        QuantizeInt8()(*trained_net)
    assert "'stem.1'" in str(caught.value)


def wrong(make: Callable[[np.ndarray], Any]) -> Callable[[], Iterable[Any]]:
    """Good first batch, then what `make` gives."""
    good = np.zeros((2, 1, 8, 8), np.float32)
    return lambda: [good, make(good)]


def with_nan(batch: np.ndarray) -> np.ndarray:
    bad = batch.copy()
    bad[1, 0, 3, 3] = np.nan
    return bad


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, r"QuantizeInt8 needs task\.calibration"),
        (list, r"gave no batches"),
        (lambda: None, r"gave a NoneType; float32 arrays of shape \(N, 1, 8, 8\)"),
        (lambda: np.zeros((2, 1, 8, 8), np.float32), r"batch 1 is float32 of shape \(1, 8, 8\)"),
        (wrong(with_nan), r"batch 2 gives NaN or infinity in tensor '/input#0'"),
        (wrong(lambda b: b + np.float32(1e38)), r"batch 2 gives NaN or infinity in tensor 'stem"),
        (
            wrong(lambda b: b[:, :, :7]),
            r"batch 2 is float32 of shape \(2, 1, 7, 8\).*\(N, 1, 8, 8\)",
        ),
        (wrong(lambda b: b[0]), r"batch 2 is float32 of shape \(1, 8, 8\)"),
        (wrong(lambda b: b[:0]), r"batch 2 .*N >= 1"),
        (wrong(lambda b: b.astype(np.uint8)), r"batch 2 is uint8.*needs float32"),
        (wrong(lambda b: (b, [1, 2])), r"batch 2 is a tuple"),
    ],
)
def test_bad_calibration_is_one_line(folded: Trained, calibration: Any, message: str) -> None:
    weight = folded.candidate.network.parameters()["stem.0.weight"]
    big = folded.candidate.with_values({"stem.0.weight": weight * np.float32(100)}, {})
    with pytest.raises(TaskError, match=message) as caught:
        QuantizeInt8()(big, replace(folded.task, calibration=calibration))
    assert "\n" not in str(caught.value)
    assert "QuantizeInt8" in str(caught.value)


def test_pictures_that_come_only_once_are_one_line(folded: Trained) -> None:
    """The observers that look twice need them twice; one generator is used up after the first."""
    once = iter([np.zeros((2, 1, 8, 8), np.float32)])
    task = replace(folded.task, calibration=lambda: once)
    with pytest.raises(TaskError, match=r"gave no batches; give at least one, anew at each call"):
        QuantizeInt8("mse")(folded.candidate, task)


class Unused(nn.Module):
    """A convolution that runs, and one that never does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(1, 2, 3)
        self.unseen = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.seen(x).mean((2, 3))


def unused() -> nn.Module:
    return Unused()


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse"])
def test_a_layer_that_never_runs_is_named_and_left_alone(observer: Any) -> None:
    spec = ModelSpec(
        "tests.compress.stages.test_quantize_int8:unused", inputs=(TensorSpec("x", (1, 1, 8, 8)),)
    )
    task = Task(
        evaluate=lambda predict: {"top1": float(predict(np.zeros((1, 1, 8, 8), np.float32))[0, 0])},
        fingerprint="two blank pictures",
        calibration=lambda: [np.zeros((2, 1, 8, 8), np.float32)],
    )
    result = QuantizeInt8(observer)(Candidate.untrained(spec, 0), task)
    result.candidate.check()
    assert result.touched == ("seen",)
    assert [(s.layer, s.reason) for s in result.skipped] == [("unseen", "the net never uses it")]
    assert "unseen.weight" not in result.candidate.encodings


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse"])
def test_memory_does_not_grow_with_the_batches(folded: Trained, observer: Any) -> None:
    """numpy tells tracemalloc of its arrays; torch's tensors live no longer than a block.

    A batch is large beside what Python itself allocates: some 20 KB more or less, by what ran
    in the process before.
    """
    batch = np.tile(pictures(folded.task)[:16], (8, 1, 1, 1))

    def peak_bytes(batches: int) -> int:
        task = replace(folded.task, calibration=lambda: (batch.copy() for _ in range(batches)))
        gc.collect()
        tracemalloc.start()
        try:
            QuantizeInt8(observer)(folded.candidate, task)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak_bytes(2)
    assert peak_bytes(40) < few + 2 * batch.nbytes


@pytest.mark.parametrize(
    "settings",
    [
        {"observer": "entropy"},
        {"percentile": 50},
        {"percentile": 100.1},
        {"percentile": float("nan")},
        {"percentile": "99"},
        {"keep_float": "fc"},
    ],
)
def test_bad_settings_are_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(RangeError) as caught:
        QuantizeInt8(**settings)
    assert "\n" not in str(caught.value)
    assert "QuantizeInt8" in str(caught.value)
