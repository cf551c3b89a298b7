"""The sensitivity scan in the report: kept, read back, drawn and tabled."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import ReportError
from compress.stages.sensitivity import Curve, Sensitivity
from targets.assemble import build_report
from targets.render import render_html, render_markdown
from targets.report import Report, read_report, write_report
from targets.report_stages import LayerCurve, SensitivityScan
from targets.rows import About
from targets.sensitivity_chart import curves
from tests.candidates import fresh
from tests.reports import make_report

SPARSITIES = (0.5, 0.9, 0.99)
SCAN = SensitivityScan(
    "top1",
    0.9919,
    (
        LayerCurve("conv1", 500, SPARSITIES, (0.9917, 0.92, 0.31)),
        LayerCurve("fc1", 400_000, SPARSITIES, (0.9919, 0.9918, 0.95)),
    ),
)


def scanned(scan: SensitivityScan = SCAN) -> Report:
    return replace(make_report(), sensitivity=scan)


def test_it_survives_the_file_and_old_reports_have_none(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(scanned(), path)
    assert read_report(path).sensitivity == SCAN
    raw = json.loads(path.read_text())
    assert raw["schema"] == 1
    del raw["sensitivity"]
    path.write_text(json.dumps(raw))
    assert read_report(path).sensitivity is None


def test_the_scan_of_a_recipe_comes_into_its_report() -> None:
    found = Sensitivity("top1", 0.9, (Curve("fc1", 10, (0.5,), (0.4,)),))
    about = About("r", "m", "d", "none", 0, sensitivity=found)
    report = build_report(about, [fresh()], [])
    assert report.sensitivity == SensitivityScan(
        "top1", 0.9, (LayerCurve("fc1", 10, (0.5,), (0.4,)),)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sparsities": (0.9, 0.5, 0.99)}, "ascending"),
        ({"sparsities": (0.5, 0.9, 1.0)}, "ascending"),
        ({"values": (0.9,)}, "equal numbers"),
        ({"sparsities": (), "values": ()}, "equal numbers"),
        ({"weights": 0}, "equal numbers"),
    ],
)
def test_a_spoilt_curve_is_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(ReportError, match=said) as caught:
        replace(SCAN.curves[0], **change)
    assert "'conv1'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_markdown_has_a_row_for_each_layer() -> None:
    text = render_markdown(scanned())
    part = text[text.index("## Sensitivity") : text.index("## Layers")]
    assert "| conv1 | 500 | 99.17 % | 92.00 % | 31.00 % |" in part
    assert "| fc1 | 400,000 |" in part
    assert "99.19 % before" in part
    assert "Sensitivity" not in render_markdown(make_report())


def test_html_has_the_curves_and_their_figures() -> None:
    html = render_html(scanned())
    assert html.count("<polyline") == 4  # two layers, for wide screens and for phones
    assert "conv1 at 90 %: 92.00 %" in html
    assert '<td data-of="99 %">31.00 %</td>' in html
    assert "<h2>Sensitivity</h2>" not in render_html(make_report())


def test_a_curve_falls_and_its_points_lie_in_the_drawing() -> None:
    for narrow in (False, True):
        drawing = curves(SCAN, narrow)
        assert drawing is not None
        width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)[0])
        for corners in re.findall(r'<polyline[^>]* points="([^"]+)"', drawing):
            points = [tuple(map(float, p.split(","))) for p in corners.split()]
            assert len(points) == 1 + len(SPARSITIES)
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
            assert [x for x, _ in points] == sorted(x for x, _ in points)
            assert [y for _, y in points] == sorted(y for _, y in points)  # down the page


def test_the_layer_that_loses_most_is_marked() -> None:
    drawing = curves(SCAN)
    assert drawing is not None
    assert re.findall(r'class="label first">([^<]*)<', drawing) == ["conv1"]


def test_other_metrics_and_extreme_scans_draw() -> None:
    hostile = LayerCurve("<b>&", 1, (0.5,), (-3.5,))
    for scan in (
        SensitivityScan("nearness", -1.5, (hostile,)),
        SensitivityScan("top1", 0.5, (LayerCurve("a", 1, (0.0,), (0.5,)),)),
        SensitivityScan(
            "top1", 0.9, tuple(LayerCurve(f"layer{i}", 1, (0.5,), (0.1,)) for i in range(60))
        ),
        SensitivityScan("top1", 0.9, ()),
    ):
        html, text = render_html(scanned(scan)), render_markdown(scanned(scan))
        assert "<b>&" not in html
        assert not re.search(r'"[^"]*\bnan\b', html)
        assert ("## Sensitivity" in text) is bool(scan.curves)
    assert "-3.5" in render_html(scanned(SensitivityScan("nearness", -1.5, (hostile,))))
