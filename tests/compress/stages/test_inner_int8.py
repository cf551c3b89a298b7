"""The QuantizeInt8 inside other stages is found and changed wherever it stands."""

from __future__ import annotations

from dataclasses import replace

from compress.stages.adaround import AdaRound
from compress.stages.correct_bias import CorrectBias
from compress.stages.inner_int8 import int8_in, with_float, with_int8
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_by_rate import ShareByRate

PLAIN = QuantizeInt8("mse")
STAGES = (
    AdaRound(4, exclude=("stem",)),
    CorrectBias((PruneMagnitude(0.5), CorrectBias(PLAIN))),
    QuantizeInt8(keep_float=("fc",)),
)


def test_every_one_is_found() -> None:
    assert int8_in(STAGES) == (PLAIN, QuantizeInt8(keep_float=("fc",)))
    assert int8_in((PruneMagnitude(0.5),)) == ()


def test_every_one_is_changed_and_nothing_else() -> None:
    changed = with_int8(STAGES, lambda stage: replace(stage, per_channel=False))
    assert changed[0] is STAGES[0]
    inner = replace(PLAIN, per_channel=False)
    assert changed[1] == CorrectBias((PruneMagnitude(0.5), CorrectBias(inner)))
    assert changed[2] == QuantizeInt8(keep_float=("fc",), per_channel=False)
    assert with_int8(STAGES, lambda stage: stage) == STAGES


def test_float_layers_are_left_out_by_all_that_round() -> None:
    kept = with_float(STAGES, ("a", "b"))
    assert kept[0] == AdaRound(4, exclude=("stem", "a", "b"))
    inner = replace(PLAIN, keep_float=("a", "b"))
    assert kept[1] == CorrectBias((PruneMagnitude(0.5), CorrectBias(inner)))
    assert kept[2] == QuantizeInt8(keep_float=("fc", "a", "b"))
    assert with_float((ShareByRate(1e-7),), ("a",)) == (ShareByRate(1e-7, exclude=("a",)),)
    assert with_float(STAGES, ()) == STAGES
    assert with_float((PLAIN,), ("linear",)) == (replace(PLAIN, keep_float=("[l]inear",)),)
