"""A bench repeated: ratios beside each other's intervals, counts beside counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from targets.bench_again import again_table, counts_again, ratios_again
from targets.measurement import Measurement
from tests.reports import make_measurement


def bench(*ratios: float) -> list[Measurement]:
    """Two files; the second's processes take `ratios` times as long as the first's."""
    return [
        make_measurement("a.onnx", *([1.0] for _ in ratios)),
        make_measurement("b.onnx", *([r] for r in ratios)),
    ]


@pytest.mark.parametrize(
    ("then", "now", "repeated"),
    [
        ((1.9, 2.0, 2.1), (1.95, 2.05, 2.1), True),
        ((1.9, 2.0, 2.1), (2.9, 3.0, 3.1), False),
        ((1.0, 2.0, 4.0), (2.9, 3.0, 3.1), False),  # in the wide one's interval, not conversely
    ],
)
def test_a_ratio_is_repeated_where_each_lies_in_the_others_interval(
    then: tuple[float, ...], now: tuple[float, ...], repeated: bool
) -> None:
    (found,) = ratios_again(bench(*then), bench(*now))
    assert found.measured.file == "b.onnx"
    assert (found.before.value, found.now.value) == (then[1], now[1])
    assert found.repeated is repeated
    told = again_table(bench(*then), bench(*now)).splitlines()
    assert told[1].split()[-1] == ("yes" if repeated else "NO")
    assert told[-1] == f"{int(repeated)} of 1 ratios lie within each other's intervals"


def test_what_both_do_not_tell_is_left_out() -> None:
    whole = bench(1.9, 2.0, 2.1)
    assert ratios_again(whole, bench(1.9, 2.0)) == []  # two processes tell no interval
    assert ratios_again(whole, whole[1:]) == []
    other = [replace(m, sha256="0" * 64) for m in whole]
    assert ratios_again(other, whole) == []
    assert ratios_again([], whole) == []
    assert "nothing to hold against" in again_table([], whole)
    untimed = [replace(m, untimed="software adapter") for m in whole]
    assert ratios_again(untimed, untimed) == []


def test_counts_are_compared_as_they_are() -> None:
    (one,) = bench(1.0)[:1]
    then = replace(one, provenance="emulated", instructions={"insns": 1_000_000, "sdot": 9})
    now = replace(then, instructions={"insns": 999_600, "sdot": 9})
    (found,) = counts_again([then], [now])
    assert (found.before, found.now) == (1_000_000, 999_600)
    assert found.change == pytest.approx(-4e-4)
    assert again_table([then], [now]) == ("1 counts of instructions within 0.0400% of those before")
    assert counts_again([one], [now]) == []
