"""The waterfall in report.html and report.md: exact figures, nothing overlapping, pure."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import ReportError
from targets.render import render_html, render_markdown
from targets.report import Report, read_report, write_report
from targets.sizing.account import SizeAccount, StoredWeights, account_sizes
from targets.sizing.chart import cause_chart, sizes_shown
from targets.sizing.page import TITLE, causes_section, charted
from targets.sizing.words import cause_columns, cause_rows, changes, signed
from tests.reports import make_report, sha
from tests.targets.test_render import Page, boxes_of_text

RESULTS = Path(__file__).resolve().parents[3] / "recipes" / "results"


def account(
    path: str, weights: int = 400_000, kept: int = 30_000, size: int = 25_000
) -> SizeAccount:
    stored = StoredWeights(weights, kept, 5, size, 128)
    return account_sizes(path, sha(path), size + 128 + 4_000, [stored], 700)


def dense(path: str) -> SizeAccount:
    stored = StoredWeights(400_000, 400_000, 32, 1_600_000)
    return account_sizes(path, sha(path), 1_604_000, [stored], 700)


@pytest.fixture
def report() -> Report:
    accounts = (dense("net-fp32.onnx"), account("net-int8.onnx"), account("net.dc", size=9_000))
    return replace(make_report(), sizes_by_cause=accounts)


def test_it_travels_in_the_report(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    text = (tmp_path / "report.json").read_text().replace('"graph_bytes": 3300', '"graph_bytes": 1')
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ReportError, match=r"sizes_by_cause\[0\]: the causes of the bytes of"):
        read_report(tmp_path / "report.json")


def test_html(report: Report) -> None:
    page = Page(render_html(report))
    text = " ".join(" ".join(page.words).split())
    assert f"{TITLE} Each cause in turn" in text
    assert "−1,480,000" in text  # 370,000 zeros of 4 bytes
    assert page.tags.count("svg") == 5 + 2
    assert text.index("Size by stage") < text.index(TITLE) < text.index("Layers")


def test_markdown(report: Report) -> None:
    lines = render_markdown(report).splitlines()
    columns = cause_columns(report.sizes_by_cause)
    assert f"| Name | {' | '.join(columns)} |" in lines
    row = next(line for line in lines if line.startswith("| net-int8.onnx | 1,600,000 |"))
    assert row == (
        "| net-int8.onnx | 1,600,000 | −1,480,000 | −101,250 | +6,250 | +128 | +3,300 | +700 "
        "| 29,128 |"
    )


def test_every_row_adds_up(report: Report) -> None:
    for given_, row in zip(report.sizes_by_cause, cause_rows(report.sizes_by_cause), strict=True):
        cells = [int(cell.replace(",", "").replace("−", "-")) for cell in row[1:]]
        assert sum(cells[:-1]) == cells[-1] == given_.file_bytes
        assert changes(given_)[-1].total == given_.file_bytes


def test_a_report_without_it_has_no_such_part() -> None:
    assert TITLE not in render_html(make_report()) + render_markdown(make_report())
    for path in sorted(RESULTS.glob("*.json"))[:3]:
        old = read_report(path)
        assert (TITLE in render_html(old)) == bool(old.sizes_by_cause)


def test_the_advised_file_comes_first_then_the_smallest(report: Report) -> None:
    accounts = report.sizes_by_cause
    assert [a.path for a in charted(accounts, sha("net-int8.onnx"))] == ["net-int8.onnx", "net.dc"]
    assert [a.path for a in charted(accounts, None)] == ["net.dc", "net-int8.onnx"]
    assert charted(accounts[:1], accounts[0].sha256) == []
    assert "<svg" not in causes_section(accounts[:1], (), None)
    assert causes_section((), (), None) == ""


def test_structure_is_a_column_where_it_changed() -> None:
    changed = account("a.onnx").against(1_700_000)
    assert "Structure" not in cause_columns([account("a.onnx")])
    assert cause_columns([account("b.onnx"), changed])[1] == "Structure"
    assert cause_rows([changed])[0][:3] == ("a.onnx", "1,700,000", "−100,000")
    section = causes_section([changed], (), None)
    assert "Structure: weights folded away" in section
    assert "÷1.06" in section


def test_hostile_names_stay_text() -> None:
    evil = replace(account("a"), path="<img src=x onerror=a()>|`\n")
    page = Page(causes_section([evil], (), None))
    assert "img" not in page.tags
    assert "<img" not in render_markdown(replace(make_report(), sizes_by_cause=(evil,)))


@given(
    st.integers(1, 10**9),
    st.floats(0, 1),
    st.integers(1, 32),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
)
def test_any_waterfall_draws_inside_its_box(
    weights: int, kept: float, bits: int, size: int, graph: int, before: int
) -> None:
    stored = StoredWeights(weights, int(kept * weights), bits, size, size // 50)
    total = size + size // 50 + graph + 10
    found = account_sizes("a", sha("a"), total, [stored], 10).against(before)
    drawing = cause_chart(found, total // 2)
    if drawing is None:
        assert found.weight_bytes == found.fp32_bytes
        return
    assert "nan" not in drawing
    assert "inf" not in drawing
    high = float(re.findall(r'viewBox="0 0 400 ([\d.]+)"', drawing)[0])
    for left, top, width, height in re.findall(
        r'<rect class="[^"]+" x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"', drawing
    ):
        assert 80 <= float(left) <= float(left) + float(width) <= 292
        assert 0 <= float(top) <= float(top) + float(height) <= high
    boxes = boxes_of_text(drawing)
    assert all(box.left >= -1 for box in boxes.values())
    rows = sorted(boxes.values(), key=lambda box: (box.top, box.left))
    assert not any(a.meets(b) for a, b in pairwise(rows))


def test_charts_beside_one_another_have_one_axis() -> None:
    small, large = account("a.onnx", size=2_000), account("b.onnx")
    span = [*sizes_shown(small), *sizes_shown(large)]
    ticks = [
        re.findall(r'<line class="grid" x1="([^"]+)"', cause_chart(a, None, span) or "")
        for a in (small, large)
    ]
    assert ticks[0] == ticks[1] != []


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (1024, "+1,024"), (-2_512_908, "−2,512,908")])
def test_signed(size: int, text: str) -> None:
    assert signed(size) == text
