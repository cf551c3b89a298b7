"""Operations against agreement: the curve, its table, and what no report may hold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import ReportError
from targets.render import render_html, render_markdown
from targets.report import read_report, write_report
from targets.svg import Box
from targets.tradeoff import Tradeoff, TradeoffPoint, tradeoff_rows
from targets.tradeoff_page import tradeoff_curves
from tests.reports import make_report

FOUND = Tradeoff(
    300_000_000,
    3_500_000,
    500,
    (
        TradeoffPoint("data-aware", 150_000_000, 2_000_000, 0.80, 0.4),
        TradeoffPoint("plain", 150_000_000, 2_000_000, 0.52, 1.9),
        TradeoffPoint("data-aware", 240_000_000, 3_000_000, 0.93, 0.05),
        TradeoffPoint("plain", 240_000_000, 3_000_000, 0.71, None),
    ),
)


def test_the_table_has_a_row_for_each_point_by_series_most_operations_first() -> None:
    rows = tradeoff_rows(FOUND)
    assert [(r[0], r[1], r[2]) for r in rows] == [
        ("data-aware", "240,000,000", "1.25×"),
        ("data-aware", "150,000,000", "2.00×"),
        ("plain", "240,000,000", "1.25×"),
        ("plain", "150,000,000", "2.00×"),
    ]
    assert rows[1][3:] == ("2,000,000", "80.00 %", "76.27–83.27", "0.4")
    assert rows[2][-1] == "—"


@pytest.mark.parametrize("narrow", [False, True])
def test_each_series_is_a_curve_from_the_whole_net_to_its_points(narrow: bool) -> None:
    drawing = tradeoff_curves(FOUND, narrow)
    lines = re.findall(r'<polyline class="curve[^"]*" points="([^"]+)"><title>([^<]+)', drawing)
    assert {name for _, name in lines} == {"data-aware", "plain"}
    corners = {
        name: [tuple(map(float, at.split(","))) for at in points.split()] for points, name in lines
    }
    assert corners["data-aware"][0] == corners["plain"][0]
    for at in corners.values():
        assert len(at) == 3
        assert [x for x, _ in at] == sorted((x for x, _ in at), reverse=True)
    # At as many operations the more agreeing one is drawn higher up.
    for ours, theirs in zip(corners["data-aware"][1:], corners["plain"][1:], strict=True):
        assert ours[0] == theirs[0]
        assert ours[1] < theirs[1]
    width = float(re.search(r'viewBox="0 0 (\S+) ', drawing)[1])  # type: ignore[index]
    room = Box(0, 0, width, 340)
    for x, y in (at for points in corners.values() for at in points):
        assert Box(x, y, x, y).inside(room)


def test_both_renderings_have_it_and_reports_without_it_do_not() -> None:
    report = replace(make_report(), tradeoff=FOUND)
    for render in (render_html, render_markdown):
        assert "Operations against agreement" in render(report)
        assert "data-aware" in render(report)
        assert "Operations against agreement" not in render(make_report())


def test_the_report_holds_it(tmp_path: Path) -> None:
    report = replace(make_report(), tradeoff=FOUND)
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_what_is_no_share_or_count_is_refused() -> None:
    point = FOUND.points[0]
    for wrong in ({"agreement": 1.01}, {"agreement": float("nan")}, {"macs": 0}):
        with pytest.raises(ReportError, match=r"0\.\.1, 1 and more") as caught:
            replace(point, **wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(ReportError, match="kl inf"):
        replace(point, kl=float("inf"))
    with pytest.raises(ReportError, match="0 samples"):
        replace(FOUND, samples=0)
