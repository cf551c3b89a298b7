"""ShareByRate: bytes for divergence at one price; what is encoded, pruned or on a grid stays so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.divergence import Divergence
from compress.encoding import Encoded
from compress.errors import RangeError, TaskError
from compress.rate_coding import used_bytes
from compress.rate_models import MODELS, Order0, RateModel
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_by_rate import ShareByRate
from compress.stages.share_weights import ShareWeights
from compress.task import Batch
from targets.formats.onnx_packed import OnnxPackedExporter
from tests.digits import calibration, digits, trained
from tests.nets import digits_branch_spec, digits_residual_spec

PICTURES = digits()["validation"].images


def folded(spec: object = digits_residual_spec) -> Candidate:
    known = trained(spec)  # type: ignore[arg-type]
    return FoldBatchNorm()(known.candidate, known.task).candidate


TASK = trained(digits_residual_spec).task
BASE = folded()


def bytes_of(candidate: Candidate, model: RateModel | None = None) -> float:
    found = [e for e in candidate.encodings.values() if isinstance(e, Encoded)]
    return sum(used_bytes(e, model or Order0()) for e in found)


def divergence(candidate: Candidate, base: Candidate = BASE) -> float:
    return Divergence.of(base.predict, lambda: [PICTURES])(candidate.predict)


def rounded(candidate: Candidate, base: Candidate) -> Candidate:
    """The same grids, each weight simply rounded to its own."""
    own = base.network.parameters()
    values = {}
    for name, encoding in candidate.encodings.items():
        assert isinstance(encoding, Encoded)
        top = int(np.abs(encoding.codebook.astype(int)).max())
        codes = np.rint(own[name] / encoding.scale).clip(-top, top)
        values[name] = (codes * encoding.scale).astype(np.float32)
    return replace(base, network=base.network.with_parameters(values))


def test_the_dearer_a_bit_the_fewer_bytes_and_the_farther_the_answers() -> None:
    done = [ShareByRate(price)(BASE, TASK).candidate for price in (1e-9, 1e-8, 1e-7, 1e-6)]
    sizes, moved = [bytes_of(c) for c in done], [divergence(c) for c in done]
    assert sizes == sorted(sizes, reverse=True)
    assert moved == sorted(moved)
    assert sizes[-1] < sizes[0] / 2
    assert moved[0] < 1e-4


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec])
def test_errors_made_good_move_the_answers_less_than_rounding(spec: object) -> None:
    base = folded(spec)
    done = ShareByRate(1e-7)(base, TASK).candidate
    assert divergence(done, base) < 0.3 * divergence(rounded(done, base), base)


def test_at_no_price_the_net_stays_what_it_is() -> None:
    done = ShareByRate(0.0)(BASE, TASK).candidate
    np.testing.assert_allclose(done.predict(PICTURES), BASE.predict(PICTURES), atol=1e-3)
    shared = ShareWeights(4)(BASE, TASK).candidate
    again = ShareByRate(0)(shared, TASK).candidate
    for name in shared.encodings:
        own = again.network.parameters()[name]
        assert np.array_equal(own, shared.network.parameters()[name])


def test_an_even_grid_is_an_integer_codebook_with_one_scale() -> None:
    done = ShareByRate(1e-7)(BASE, TASK).candidate
    assert set(done.encodings) == {layer.weight for layer in BASE.network.layers()}
    for encoding in done.encodings.values():
        assert isinstance(encoding, Encoded)
        assert encoding.on_integers
        assert encoding.scale.shape == (1,)
        assert (np.bincount(encoding.indices.reshape(-1))[1:] > 0).all()  # nothing unused
        assert (np.diff(encoding.codebook[1:].astype(int)) > 0).all()


def test_pruned_weights_stay_zero() -> None:
    pruned = PruneMagnitude(0.6)(BASE, TASK).candidate
    done = ShareByRate(1e-8)(pruned, TASK).candidate
    for name, mask in pruned.encodings.items():
        own = done.network.parameters()[name]
        assert not own[mask.zeros()].any()
        assert np.count_nonzero(own) > 0.2 * own.size


@pytest.mark.parametrize("stage", [ShareWeights(4), QuantizeInt8()])
def test_encoded_weights_keep_codebook_and_scale(stage: ShareWeights | QuantizeInt8) -> None:
    before = stage(BASE, TASK).candidate
    after = ShareByRate(1e-5, rate=1.0)(before, TASK).candidate
    assert bytes_of(after) < bytes_of(before)
    assert after.activations == before.activations
    for name, old in before.encodings.items():
        new = after.encodings[name]
        assert isinstance(old, Encoded)
        assert isinstance(new, Encoded)
        assert np.array_equal(new.codebook, old.codebook)
        assert np.array_equal(new.scale, old.scale)
        assert new.axis == old.axis
        assert not new.zeros()[~old.zeros()].all()


def test_the_share_that_choosing_sees_saves_bytes() -> None:
    plain = ShareByRate(1e-7)(BASE, TASK).candidate
    wise = ShareByRate(1e-7, rate=1.0)(BASE, TASK).candidate
    assert bytes_of(wise) < bytes_of(plain)


def test_the_mean_of_each_output_stays() -> None:
    done = ShareByRate(1e-6, include=("fc",))(BASE, TASK).candidate
    own = {"fc.bias": BASE.network.parameters()["fc.bias"]}
    uncorrected = replace(done, network=done.network.with_parameters(own))
    seen = np.concatenate(list(calibration()))
    before = BASE.predict(seen).mean(axis=0)
    moved, alone = (np.abs(c.predict(seen).mean(axis=0) - before) for c in (done, uncorrected))
    assert moved.mean() < 0.5 * alone.mean()
    assert moved.max() < 0.1  # what the bias's own grid leaves


@pytest.mark.parametrize("model", ["order0", "huffman", "packed"])
def test_bytes_are_kept_and_used(model: Literal["order0", "huffman", "packed"]) -> None:
    limit = 4000
    done = ShareByRate(coded_bytes=limit, model=model)(BASE, TASK).candidate
    assert 0.9 * limit < bytes_of(done, MODELS[model]) <= limit


def test_bytes_of_the_container_are_kept_and_used() -> None:
    limit = 300
    stage = ShareByRate(coded_bytes=limit, model="context", include=("fc",))
    assert 0.9 * limit < bytes_of(stage(BASE, TASK).candidate, MODELS["context"]) <= limit


@pytest.mark.parametrize("model", ["huffman", "context"])
def test_each_entropy_coder_saves_bytes_of_its_own(model: Literal["huffman", "context"]) -> None:
    before = ShareWeights(5)(BASE, TASK).candidate
    plain = ShareByRate(3e-7)(before, TASK).candidate
    wise = ShareByRate(3e-7, rate=1.0, model=model)(before, TASK).candidate
    assert bytes_of(wise, MODELS[model]) < 0.98 * bytes_of(plain, MODELS[model])


@pytest.mark.parametrize("start", [BASE, ShareWeights(5)(BASE, TASK).candidate])
def test_a_packed_onnx_is_smaller_where_levels_are_chosen_for_it(
    start: Candidate, tmp_path: Path
) -> None:
    """At the same divergence of the answers."""
    stages = ShareByRate(divergence=0.01), ShareByRate(divergence=0.01, model="packed")
    done = [stage(start, TASK).candidate for stage in stages]
    sizes = [OnnxPackedExporter()(c, tmp_path / "x.packed.onnx").size_bytes for c in done]
    assert sizes[1] < 0.9 * sizes[0]
    for encoding in done[1].encodings.values():
        assert isinstance(encoding, Encoded)
        used = np.unique(encoding.indices).size
        assert used <= 32


def test_divergence_is_kept_on_pictures_that_only_judge() -> None:
    bound = 0.01
    done = ShareByRate(divergence=bound)(BASE, TASK).candidate
    seen = np.concatenate(list(calibration()))
    judges = seen[3::4]
    found = Divergence.of(BASE.predict, lambda: [judges])(done.predict)
    assert bound / 4 < found <= bound


def test_a_drop_is_kept_and_used() -> None:
    whole = TASK.score(BASE.predict, "top1", "test")
    found = [ShareByRate(drop=drop)(BASE, TASK).candidate for drop in (0.0, 0.05)]
    assert TASK.score(found[0].predict, "top1", "test") >= whole
    assert TASK.score(found[1].predict, "top1", "test") >= whole - 0.05
    assert (
        bytes_of(found[1]) < bytes_of(found[0]) < bytes_of(ShareByRate(1e-9)(BASE, TASK).candidate)
    )


def test_a_metric_that_the_task_does_not_give_is_refused() -> None:
    with pytest.raises(TaskError, match=r"ShareByRate\(metric='top5'\): task.evaluate gives top1"):
        ShareByRate(drop=0.1, metric="top5")(BASE, TASK)


def test_a_limit_that_no_price_keeps_is_refused() -> None:
    with pytest.raises(RangeError, match="coded_bytes=10") as error:
        ShareByRate(coded_bytes=10)(BASE, TASK)
    assert "\n" not in str(error.value)


def test_layers_left_out_and_biases_elsewhere_stay() -> None:
    result = ShareByRate(1e-7, include=("fc",))(BASE, TASK)
    assert result.touched == ("fc",)
    own, before = (c.network.parameters() for c in (result.candidate, BASE))
    assert all(np.array_equal(own[n], before[n]) for n in before if not n.startswith("fc."))


def test_another_price_looks_at_no_picture_again_and_gives_the_same() -> None:
    looks = 0

    def counted() -> Iterator[Batch]:
        nonlocal looks
        looks += 1
        yield from calibration()

    task, base = replace(TASK, calibration=counted), folded()
    done = [ShareByRate(price)(base, task).candidate.digest() for price in (1e-8, 1e-7)]
    assert looks == 1
    assert done[1] == ShareByRate(1e-7)(folded(), TASK).candidate.digest()
    ShareByRate(1e-7)(base, replace(task, seed=1))
    assert looks == 2


def test_batches_of_another_shape_are_refused() -> None:
    wrong = replace(TASK, calibration=lambda: [np.zeros((2, 3, 8, 8), np.float32)])
    with pytest.raises(TaskError, match="ShareByRate: calibration batch 1"):
        ShareByRate(1e-7)(BASE, wrong)
