"""The int8 scan in the report: kept, read back, drawn and tabled."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import ReportError
from compress.stages.int8_losses import LayerLoss
from compress.stages.int8_mending import Mending, WayLoss
from compress.stages.int8_sensitivity import Int8Sensitivity
from targets.assemble import build_report
from targets.int8_chart import int8_bars
from targets.int8_scan import Int8Layer, Int8Scan, Int8Way
from targets.int8_words import WORST
from targets.render import render_html, render_markdown
from targets.report import Report, read_report, write_report
from targets.rows import About
from tests.candidates import fresh
from tests.reports import make_report

LAYER = Int8Layer(
    "stem", 800, 9000, 46.2, 43.1, 31.0, 0.0023, 0.0002, 0.00226, "CorrectBias", 0.000246, 4
)
SCAN = Int8Scan(
    "QuantizeInt8()",
    32,
    0.0223,
    16.7,
    (
        LAYER,
        Int8Layer("a/add#0", 0, 0, None, 20.2, 9.5, 0.0, 0.0014, 0.0014, tried=3),
        Int8Layer("head", 90, 90, 42.5, 35.9, 16.7, 0.00002, 0.0006, 0.00064),
    ),
    (Int8Way("CorrectBias", 0.0181, 17.2), Int8Way("AdaRound", None, None, "no pictures")),
)


def scanned(scan: Int8Scan = SCAN) -> Report:
    return replace(make_report(), int8_scan=scan)


def test_it_survives_the_file_and_old_reports_have_none(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(scanned(), path)
    assert read_report(path).int8_scan == SCAN
    raw = json.loads(path.read_text())
    assert raw["schema"] == 1
    del raw["int8_scan"]
    path.write_text(json.dumps(raw))
    assert read_report(path).int8_scan is None


def test_the_scan_of_a_recipe_comes_into_its_report() -> None:
    found = Int8Sensitivity(
        "QuantizeInt8()",
        32,
        0.02,
        16.0,
        (LayerLoss("stem", 9, 90, 40.0, 30.0, 20.0, 0.1, 0.2, 0.25, 12.0),),
        (Mending("stem", "CorrectBias", 0.25, 0.1), Mending("stem", "keep_float", 0.25, 0.3)),
        (WayLoss("CorrectBias", 0.01, 19.0),),
    )
    about = About("r", "m", "d", "none", 0, int8_scan=found)
    scan = build_report(about, [fresh()], []).int8_scan
    assert scan is not None
    (layer,) = scan.layers
    assert (layer.mend, layer.mended_kl, layer.tried) == ("CorrectBias", 0.1, 2)
    assert (layer.layer, layer.macs, layer.alone_kl) == ("stem", 90, 0.25)
    assert scan.ways == (Int8Way("CorrectBias", 0.01, 19.0),)
    assert (scan.pictures, scan.int8_kl, scan.int8_db) == (32, 0.02, 16.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alone_kl": -0.1}, "alone_kl"),
        ({"weights_kl": float("nan")}, "weights_kl"),
        ({"output_kl": float("inf")}, "output_kl"),
        ({"mended_kl": None}, "go together"),
        ({"mend": ""}, "go together"),
    ],
)
def test_a_spoilt_layer_is_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(ReportError, match=said) as caught:
        replace(LAYER, **change)  # type: ignore[arg-type]
    assert "'stem'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_markdown_has_every_layer_and_every_way() -> None:
    text = render_markdown(scanned())
    part = text[text.index("## Who hurts in int8") : text.index("## Layers")]
    assert (
        "| stem | 2.26 | 2.3 | 0.2 | 46.2 dB | 43.1 dB | 31.0 dB | CorrectBias: 0.246 left |"
        in part
    )
    assert "| 1.4 | — | 1.4 | — | 20.2 dB | 9.5 dB | none of 3 tried |" in part
    assert "| head | 0.64 | 0.02 | 0.6 | 42.5 dB | 35.9 dB | 16.7 dB | — |" in part
    assert "| as it is | 22.3 | 16.7 dB |" in part
    assert "| CorrectBias | 18.1 | 17.2 dB |" in part
    assert "AdaRound (cannot be tried: no pictures) | — | — |" in part
    assert "Who hurts" not in render_markdown(make_report())


def test_the_page_draws_the_worst_and_folds_the_others_away() -> None:
    many = tuple(replace(LAYER, layer=f"layer{i}") for i in range(WORST + 5))
    html = render_html(scanned(replace(SCAN, layers=many)))
    assert "<summary>The other 5</summary>" in html
    assert html.count("layer20</code>") == 1
    drawing = int8_bars(replace(SCAN, layers=many))
    assert drawing is not None
    assert f"layer{WORST - 1}" in drawing
    assert f"layer{WORST}" not in drawing
    assert "Who hurts" not in render_html(make_report())


@pytest.mark.parametrize("narrow", [False, True])
def test_bars_are_as_long_as_the_losses(narrow: bool) -> None:
    drawing = int8_bars(SCAN, narrow)
    assert drawing is not None
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)[0])
    pattern = r'<rect class="bar[^"]*" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"[^>]*><title>'
    bars = [tuple(map(float, found)) for found in re.findall(pattern, drawing)]
    lengths: dict[float, float] = {}
    for x, y, length in bars:
        assert 0 <= x <= x + length <= width
        assert 0 <= y <= height
        lengths[y] = lengths.get(y, 0.0) + length
    found = [length for _, length in sorted(lengths.items())]
    longest = found[0] / SCAN.layers[0].alone_kl
    for length, row in zip(found, SCAN.layers, strict=True):
        assert length == pytest.approx(longest * row.alone_kl, rel=0.02)
    assert drawing.count('class="mark ship"') == 2  # what mends the stem, and its key


def test_hostile_names_and_nets_that_lose_nothing() -> None:
    hostile = replace(LAYER, layer="<b>&|", mend="<i>|")
    scan = replace(SCAN, quantize="<script>", layers=(hostile,))
    assert "<b>&" not in render_html(scanned(scan))
    assert "<script>" not in render_html(scanned(scan))
    assert "<b>" not in render_markdown(scanned(scan))
    still = replace(LAYER, weights_kl=0.0, output_kl=0.0, alone_kl=0.0, mend="", mended_kl=None)
    quiet = replace(SCAN, layers=(still,), ways=())
    assert int8_bars(quiet) is None
    assert "| stem | 0 | 0 | 0 |" in render_markdown(scanned(quiet))
    assert "<code>stem</code>" in render_html(scanned(quiet))
