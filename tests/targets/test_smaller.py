"""The honest line: a smaller net, uncompressed, beside the compressed files."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from targets.advice import advise
from targets.loss import fidelity_of
from targets.render import render_html, render_markdown
from targets.report_row import Row
from targets.scatter_axes import LATENCY, SIZE
from targets.scatter_chart import scatter
from targets.smaller import MEASURES, UNKNOWN, better, smaller_words
from tests.reports import make_report, make_row, unmeasured

DOWNLOAD, TIME = MEASURES
FP32 = make_row("net-fp32.onnx", "fp32", 1_600_000, 0.100, 0.9919)


def small(path: str, download: int, median_ms: float, top1: float) -> Row:
    return replace(make_row(path, "fp32", download, median_ms, top1), method="smaller net")


HALF = small("net-0.5-fp32.onnx", 400_000, 0.040, 0.9850)
MOST = small("net-0.75-fp32.onnx", 900_000, 0.070, 0.9900)


def test_a_file_loses_where_a_smaller_net_costs_no_more_and_is_as_accurate() -> None:
    row = make_row("net-int8.onnx", "int8", 400_000, 0.050, 0.9850)
    assert better(row, [HALF, MOST], DOWNLOAD) is HALF
    assert better(row, [HALF, MOST], TIME) is HALF
    assert better(replace(row, download_bytes=399_999), [HALF, MOST], DOWNLOAD) is None
    assert better(replace(row, top1=0.9851), [HALF, MOST], DOWNLOAD) is None
    assert better(replace(row, download_bytes=10**6, top1=0.98), [HALF, MOST], DOWNLOAD) is MOST
    unscored = replace(row, top1=None, not_measured={**row.not_measured, "top1": "no labels"})
    assert better(unscored, [HALF], DOWNLOAD) is None


def test_only_files_of_one_runtime_are_compared_and_containers_with_all() -> None:
    row = make_row("net.tflite", "int8", 500_000, 0.050, 0.9850)
    other = replace(row, runtime="ai_edge_litert 2.3.0")
    assert better(row, [HALF], DOWNLOAD) is HALF
    assert better(other, [HALF], DOWNLOAD) is None
    assert better(replace(row, threads=2), [HALF], DOWNLOAD) is None
    assert better(unmeasured(other), [HALF], DOWNLOAD) is HALF
    assert better(unmeasured(other), [HALF], TIME) is None


def test_the_report_says_which_files_lose() -> None:
    lost = make_row("net-svd.onnx", "fp32", 1_000_000, 0.060, 0.9890)
    lost = replace(lost, method="svd")
    kept = make_row("net-int8.onnx", "int8", 62_000, 0.041, 0.9912)
    report = make_report(FP32, lost, kept, HALF, MOST)
    by_download, by_latency, beside = smaller_words(report, kept)
    assert (
        "does as well as 1 of 2 compressed files or better: net-svd.onnx (1.00 MB, 98.90 %; "
        in (by_download)
    )
    assert "net-0.75-fp32.onnx 900 kB, 99.00 %)" in by_download
    assert (
        by_latency == "By latency, a smaller net, uncompressed, matches none of 2 compressed files."
    )
    assert beside.startswith("No smaller net is as accurate as net-int8.onnx (62.0 kB, 41.0 µs, 99")
    assert "the most accurate is net-0.75-fp32.onnx (900 kB, 70.0 µs, 99.00 %)" in beside
    as_good = smaller_words(report, lost)[-1]
    assert (
        "as accurate as net-svd.onnx (1.00 MB, 60.0 µs, 98.90 %) is net-0.75-fp32.onnx" in as_good
    )


def test_without_smaller_nets_nothing_is_known_and_both_renderings_say_so() -> None:
    report = make_report()
    assert smaller_words(report, None) == (UNKNOWN,)
    assert UNKNOWN in render_markdown(report)
    assert UNKNOWN in render_html(report)
    beside = make_report(*report.rows, HALF)
    for render in (render_markdown, render_html):
        assert UNKNOWN not in render(beside)
        assert "matches none of 3 compressed files" in render(beside)


def test_a_smaller_net_is_advised_where_it_wins_and_only_there() -> None:
    int8 = make_row("net-int8.onnx", "int8", 500_000, 0.050, 0.9912)
    winner = small("net-0.5-fp32.onnx", 400_000, 0.040, 0.9890)
    won = advise(make_report(FP32, int8, winner))
    assert won.ship is winner
    assert won.sentence.endswith(
        "a smaller net, trained in the same way, does better than compressing this one."
    )
    assert "Runner-up: net-int8.onnx" in render_html(make_report(FP32, int8, winner))
    lost = advise(make_report(FP32, int8, HALF))
    assert lost.ship is int8
    assert "smaller net" not in lost.sentence
    assert [r.path for r in lost.rejected] == [HALF.path]


def test_a_smaller_net_is_never_what_others_are_compared_with() -> None:
    int8 = make_row("net-int8.onnx", "int8", 62_000, 0.200, 0.9912)
    fast = small("net-0.5-fp32.onnx", 400_000, 0.010, 0.9850)
    assert advise(make_report(FP32, int8, fast)).rejected[0].reason == (
        "takes 2.00× the time of net-fp32.onnx"
    )
    assert advise(make_report(int8, fast)).ship is None


@pytest.mark.parametrize("cost", [SIZE, LATENCY])
def test_the_line_joins_the_smaller_nets_and_the_untouched_one_by_cost(cost: object) -> None:
    assert cost in (SIZE, LATENCY)
    axis = SIZE if cost is SIZE else LATENCY
    int8 = make_row("net-int8.onnx", "int8", 62_000, 0.041, 0.9912)
    drawing = scatter([HALF, FP32, int8, MOST], None, int8.sha256, axis)
    assert drawing is not None
    lines = re.findall(r'<polyline class="curve smaller" points="([^"]+)"><title>', drawing)
    assert len(lines) == 1
    corners = [tuple(map(float, pair.split(","))) for pair in lines[0].split()]
    assert [x for x, _ in corners] == sorted(x for x, _ in corners)
    # HALF, MOST, FP32: the larger the more accurate, and higher up.
    assert len(corners) == 3
    assert [y for _, y in corners] == sorted((y for _, y in corners), reverse=True)
    assert drawing.count('class="mark smaller"') == 2 + 1  # and one in the key
    assert "smaller net, uncompressed (onnx)" in drawing
    without = scatter([FP32, int8], None, int8.sha256, axis)
    assert "smaller" not in (without or "")


def test_latency_is_drawn_by_target_and_not_of_untimed_files() -> None:
    container = unmeasured(make_row("net.dc", "shared", 39_900, 1.0, 0.9917))
    assert scatter([FP32, container], None, None, LATENCY) is None
    html = render_html(make_report(FP32, HALF, replace(HALF, threads=2), replace(FP32, threads=2)))
    assert html.count("<h2>Accuracy against latency</h2>") == 2
    assert "local, 1 thread." in html
    assert "local, 2 threads." in html


def test_names_leave_out_what_all_begin_with() -> None:
    drawing = scatter([HALF, FP32, MOST], None, None) or ""
    assert '">0.5-fp32.onnx</text>' in drawing
    assert '">net-' not in drawing
    assert fidelity_of(HALF) == 0.9850
