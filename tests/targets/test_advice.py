"""The rule that says which file to ship."""

from __future__ import annotations

from dataclasses import replace

from targets.advice import advise
from targets.report_row import Latency, Row
from tests.reports import make_report, make_row, unmeasured

FP32 = make_row("net-fp32.onnx", "fp32", 1_600_000, 0.100, 0.9919)


def test_the_smallest_download_that_passes() -> None:
    advice = advise(make_report())
    assert advice.ship is not None
    assert advice.ship.path == "net-int8.onnx"
    assert advice.runner_up is not None
    assert advice.runner_up.path == "net-shared.onnx"
    assert advice.sentence.startswith("Ship net-int8.onnx: the smallest download")
    assert "62.0 kB (25.8× smaller than net-fp32.onnx)" in advice.sentence
    assert "99.12 % top-1 (−0.07 points)" in advice.sentence
    assert "2.05× as fast" in advice.sentence
    assert [r.path for r in advice.rejected] == ["net.dc"]
    assert any("Smallest to send is net.dc (39.9 kB)" in note for note in advice.notes)


def ship_of(*rows: Row) -> str | None:
    ship = advise(make_report(*rows)).ship
    return None if ship is None else ship.path


def test_accuracy_is_a_limit_and_the_limit_itself_passes() -> None:
    """max_drop is 0.005."""
    at, beyond = (make_row("q.onnx", "int8", 9, 0.05, top1) for top1 in (0.9869, 0.9868))
    assert ship_of(FP32, at) == "q.onnx"
    assert ship_of(FP32, beyond) == "net-fp32.onnx"
    rejected = advise(make_report(FP32, beyond)).rejected
    assert rejected[0].reason == "loses 0.51 points of top-1, 0.50 are allowed"


def test_latency_is_a_limit() -> None:
    assert ship_of(FP32, make_row("q.onnx", "int8", 9, 0.109, 0.99)) == "q.onnx"
    slow = advise(make_report(FP32, make_row("q.onnx", "int8", 9, 0.150, 0.99)))
    assert slow.ship is not None
    assert slow.ship.path == "net-fp32.onnx"
    assert slow.rejected[0].reason == "takes 1.50× the time of net-fp32.onnx"
    assert slow.sentence.endswith("no compressed file passes.")


def timed(path: str, *medians: float) -> Row:
    """Five calls a process, each process about its own median."""
    row = make_row(path, "int8", 9, sorted(medians)[len(medians) // 2], 0.99)
    times = tuple(tuple(m * f for f in (0.98, 0.99, 1.0, 1.01, 1.02)) for m in medians)
    return replace(row, times_ms=times)


def test_chance_alone_is_no_objection_and_is_said() -> None:
    """1.15 times at the median; the pairs that ran side by side had 0.95 to 1.30."""
    base = replace(FP32, times_ms=timed("", 0.1, 0.1, 0.1).times_ms)
    unsteady = timed("q.onnx", 0.095, 0.115, 0.130)
    advice = advise(make_report(base, unsteady))
    assert advice.ship is unsteady
    assert advice.notes[0].startswith("q.onnx took 1.15× the time of net-fp32.onnx (95 % interval")
    steady = timed("q.onnx", 0.114, 0.115, 0.116)
    advice = advise(make_report(base, steady))
    assert advice.ship is base
    reason = "takes 1.15× the time of net-fp32.onnx (95 % interval 1.11× to 1.19×)"
    assert advice.rejected[0].reason == reason
    quick = advise(make_report(base, timed("q.onnx", 0.078, 0.08, 0.082)))
    assert quick.ship is not None
    assert not any("measure again" in note for note in quick.notes)


def test_each_format_is_held_against_its_own_fp32_file() -> None:
    fast = make_row("net-fp32.tflite", "fp32", 1_600_000, 0.02, 0.9919)
    other = make_row("q.tflite", "int8", 9, 0.05, 0.99)
    assert ship_of(FP32, other) == "q.tflite"  # no .tflite fp32: the .onnx one
    assert ship_of(FP32, fast, other) in ("net-fp32.onnx", "net-fp32.tflite")


def test_other_threads_are_no_comparison() -> None:
    two = replace(make_row("q.onnx", "int8", 9, 0.05, 0.99), threads=2)
    advice = advise(make_report(FP32, two))
    assert advice.rejected[0].reason.startswith("no untouched fp32 file was measured beside it")


def test_a_file_must_pass_on_every_target() -> None:
    good = make_row("q.onnx", "int8", 9, 0.05, 0.99)
    slow = replace(good, threads=2, latency_ms=Latency(0.3, 0.3, 0.3, 9), times_ms=((0.3,),))
    base = replace(FP32, threads=2)
    assert ship_of(FP32, base, good, slow) == "net-fp32.onnx"


def test_what_was_not_measured_is_never_advised() -> None:
    emulated = unmeasured(make_row("q.onnx", "int8", 9, 0.05, 0.99), "emulated time only")
    assert ship_of(FP32, emulated) == "net-fp32.onnx"
    assert ship_of(emulated) is None
    blind = make_row("q.onnx", "int8", 9, 0.05, 0.99)
    blind = replace(blind, top1=None, not_measured={**blind.not_measured, "top1": "no labels"})
    assert advise(make_report(FP32, blind)).rejected[0].reason.startswith("its accuracy")


def test_no_file_at_all_is_said() -> None:
    report = replace(make_report(), rows=())
    assert advise(report).sentence == "Ship nothing yet: the report has no file."
    only = advise(make_report(unmeasured(FP32)))
    assert only.sentence.startswith("Ship nothing yet: no file passes; net-fp32.onnx:")


def test_noise_is_mentioned() -> None:
    loud = replace(make_row("q.onnx", "int8", 9, 0.05, 0.99), noisy=True)
    assert any("q.onnx were noisy" in note for note in advise(make_report(FP32, loud)).notes)


def test_best_of_each_format_comes_in_order() -> None:
    base = make_row("net-fp32.tflite", "fp32", 1_500_000, 0.1, 0.9919)
    rows = (FP32, base, make_row("q.onnx", "int8", 9, 0.05, 0.99))
    advice = advise(make_report(*rows))
    assert [r.path for r in advice.best] == ["q.onnx", "net-fp32.tflite"]


def test_a_factorized_net_is_fp32_but_no_reference() -> None:
    """Faster and smaller than the untouched file, and compared with that one, not with itself."""
    thin = replace(make_row("net-svd.onnx", "fp32", 400_000, 0.05, 0.99), method="svd")
    for rows in ((FP32, thin), (thin, FP32)):
        advice = advise(make_report(*rows))
        assert advice.ship is thin
        assert advice.reference is FP32
        assert "no compressed file passes" not in advice.sentence
        assert "4.00× smaller than net-fp32.onnx" in advice.sentence
    slow = replace(make_row("net-svd.onnx", "fp32", 400_000, 0.2, 0.99), method="svd")
    advice = advise(make_report(FP32, slow))
    assert advice.ship is FP32
    assert advice.rejected[0].reason == "takes 2.00× the time of net-fp32.onnx"
    assert advise(make_report(thin)).rejected[0].reason.startswith("no untouched fp32 file")


def test_a_smoke_run_is_told_first() -> None:
    report = make_report()
    smoke = replace(report, smoke=True)
    told = advise(smoke).sentence
    assert told == f"Smoke run, figures mean nothing: {advise(report).sentence}"
    nothing = advise(replace(smoke, rows=())).sentence
    assert nothing.startswith("Smoke run, figures mean nothing: Ship nothing yet")
