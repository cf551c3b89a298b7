"""Renderings: what they must say, nothing fetched, nothing injected, nothing overlapping."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets import charts, latency_chart, markdown, scatter_chart, svg, units
from targets.render import TABLES, render_html, render_markdown, write_all
from targets.report import Report, read_report
from targets.report_stages import Layer, SizePoint, SkippedLayer
from tests.reports import make_report, make_row, unmeasured

EVIL = (
    "</title></style><script>alert('x')</script><img src=//evil onerror=\"a()\">&`|*\n# H\x00\x1b"
)
VOID = {"meta", "br", "link", "img", "rect", "line", "circle", "polygon", "path"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def evil_report() -> Report:
    """Every text that a report can carry is hostile."""
    row = make_row("net.onnx", "int8", 62_000, 0.04, 0.99)
    base = make_row("base.onnx", "fp32", 160_000, 0.05, 0.99)
    names = ("model", "dataset", "method", "format", "path", "runtime", "device", "provider")
    rows = (base, replace(row, **dict.fromkeys(names, EVIL)), unmeasured(row, EVIL))
    step = replace(
        make_report().steps[1],
        stage=EVIL,
        settings=EVIL,
        skipped=(SkippedLayer(EVIL, EVIL),),
        trained_on=EVIL,
    )
    return replace(
        make_report(*rows),
        recipe=EVIL,
        created=EVIL,
        environment={EVIL: EVIL},
        steps=(step,),
        sizes=(SizePoint(EVIL, 9), SizePoint(EVIL + "2", 3)),
        layers=(Layer(EVIL, (2, 3), 6, 3, 0.5, 8, EVIL),),
        not_measured=(EVIL,),
    )


def test_html_says_what_matters_first_and_has_every_part() -> None:
    page = Page(render_html(make_report()))
    text = " ".join(" ".join(page.words).split())
    order = ["Ship net-int8.onnx", "Files", "Accuracy against size", "Size by stage", "Latency"]
    order += ["Layers", "Steps", "Environment", "Not measured"]
    place = text.index("lenet5 on mnist")
    for word in order:
        place = text.index(word, place)  # each after the one before
    for word in ("98.92–99.29", "3 won, 5 lost", "+19.0 MB", "25.8×", "FoldBatchNorm()", "92.0 %"):
        assert word in text, word
    assert "ip2 alone: too few weights" in text
    assert page.tags.count("svg") == 5


def test_a_step_says_on_which_accelerator_it_was_trained() -> None:
    report = make_report()
    steps = (*report.steps[:-1], replace(report.steps[-1], seconds=75.0, trained_on="Card 9"))
    on = replace(report, steps=steps)
    for render in (render_html, render_markdown):
        assert "75 s on Card 9" in render(on)
        assert " on Card" not in render(report)


def test_html_is_self_contained_and_accessible() -> None:
    html = render_html(make_report())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not {"src", "href", "onclick", "onload"} & {name for name, _ in page.attributes}
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert html.count('role="img"') == html.count("<svg") == html.count("aria-label=") - 1
    assert '<html lang="en">' in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_renderings_are_pure(render: object, tmp_path: Path) -> None:
    assert callable(render)
    report = make_report()
    paths = write_all(report, tmp_path)
    assert render(report) == render(make_report()) == render(read_report(paths[0]))
    assert [p.name for p in paths] == ["report.json", "report.md", "report.html"]
    assert render(report) in (paths[1].read_text(), paths[2].read_text())


def test_hostile_text_stays_text_in_html() -> None:
    html = render_html(evil_report())
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not {"\x00", "\x1b"} & set(html)
    assert "<script>alert('x')</script>" in "".join(page.words)


def test_hostile_text_stays_text_in_markdown() -> None:
    for text in (render_markdown(evil_report()), TABLES["results"]([evil_report()])):
        assert "<script" not in text
        assert "<img" not in text
        assert not re.search(r"^# H", text, re.MULTILINE)
        tables = [line for line in text.splitlines() if line.startswith("|")]
        for above, line in pairwise(tables):
            if set(line) <= set("|:- "):
                assert len(re.findall(r"(?<!\\)\|", above)) == len(re.findall(r"\|", line))


@given(st.text())
def test_escapes_leave_no_way_out(text: str) -> None:
    assert not re.search(r"[<>\"']|&(?!(amp|lt|gt|quot|#x27);)", svg.escape(text))
    safe = markdown.escape(text)
    assert "\n" not in safe
    assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[|`*]", safe)


def test_markdown_begins_with_the_advice_and_ends_a_table_row_per_file() -> None:
    text = render_markdown(make_report())
    assert text.startswith("# lenet5_deep_compression\n\n**Ship net-int8.onnx: ")
    assert "| net-int8.onnx (ship) | int8 (deep-compression) |" in text
    files = text.split("## Files")[1].split("##")[0]
    assert len([x for x in files.splitlines() if x.startswith("| net")]) == 4
    assert "ip2 alone: too few weights" in text


def test_readme_table_is_sorted_and_names_the_machine() -> None:
    table = TABLES["results"]([make_report(), make_report(make_row("z.onnx", "fp32", 9, 1.0, 0.5))])
    lines = table.splitlines()
    assert len(lines) == 2 + 5
    assert lines[0].startswith("| Model | Method | File | Size | Ratio | Download |")
    assert "| 3.20 MB |" in lines[2]
    assert lines[2].endswith("| 84.0 µs | onnxruntime 1.31.1, 1 thread, AMD EPYC |")
    assert lines[-1].count("18 B") == 1
    assert any(line.endswith("| — | — |") for line in lines)


def test_null_everywhere_renders() -> None:
    row = unmeasured(make_row("net.onnx", "int8", 62_000, 0.04, 0.99))
    names = ("params", "nonzeros", "macs", "top1", "top1_fp32", "samples", "won", "lost")
    names = (*names, "baseline_bytes", "ratio", "evaluated_sha256")
    gaps = {**row.not_measured, **dict.fromkeys(names, "not asked for")}
    bare = replace(row, **dict.fromkeys(names), not_measured=gaps)
    report = replace(make_report(bare), steps=(), sizes=(), layers=(), git_commit=None)
    html, text = render_html(report), render_markdown(report)
    assert "None" not in html + text
    assert "Ship nothing yet" in html
    assert "<svg" not in html
    assert "not asked for" in html
    empty = replace(report, rows=(), environment={}, not_measured=())
    assert "the report has no file" in render_html(empty)
    assert "the report has no file" in render_markdown(empty)
    Page(render_html(empty))


def test_emulated_and_noisy_files_are_marked() -> None:
    loud = replace(make_row("a.onnx", "fp32", 9, 1.0, 0.9), noisy=True)
    row = unmeasured(make_row("b.onnx", "int8", 9, 1.0, 0.9), "emulated time is not latency")
    gaps = {k: v for k, v in row.not_measured.items() if k != "provenance"}
    emulated = replace(row, provenance="emulated", not_measured=gaps)
    html = render_html(make_report(loud, emulated))
    assert '<span class="tag warn">noisy</span>' in html
    assert '<span class="tag warn">emulated</span>' in html


@given(
    st.lists(
        st.tuples(st.floats(50, 390), st.floats(30, 260), st.integers(1, 26)),
        min_size=1,
        max_size=14,
    )
)
def test_labels_never_cover_one_another(spots: list[tuple[float, float, int]]) -> None:
    room, font = svg.Box(40, 26, 392, 268), 11.0
    points = [(x, y) for x, y, _ in spots]
    labels = ["m" * length for *_, length in spots]
    boxes: list[svg.Box] = []
    for label, place in zip(labels, svg.place_labels(points, labels, font, room), strict=True):
        if place is None:
            continue
        x, y, anchor = place
        width = len(label) * font * svg.CHARACTER_WIDTH
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        box = svg.Box(left, y - 0.8 * font, left + width, y + 0.25 * font)
        assert box.inside(room)
        assert not any(box.meets(other) for other in boxes)
        boxes.append(box)
    if len(spots) == 1:
        assert len(boxes) == 1


@given(st.floats(1e-6, 1e6), st.floats(1.0001, 1e6))
def test_ticks_are_inside_and_few(low: float, factor: float) -> None:
    high = low * factor
    for ticks in (svg.linear_ticks(low, high), svg.log_ticks(low, high)):
        assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)
        assert ticks == sorted(set(ticks))
        assert len(ticks) <= 40


def test_charts_of_equal_or_extreme_values_draw() -> None:
    one = make_row("a.onnx", "fp32", 100, 1.0, 1.0)
    same = [one, make_row("b.onnx", "fp32", 100, 1.0, 1.0)]
    wide = [make_row("c.onnx", "fp32", 1, 1e-6, 0.0), make_row("d.onnx", "fp32", 10**12, 1e6, 1.0)]
    for rows in (same, wide, same + wide):
        for drawing in (
            scatter_chart.scatter(rows, 0.5, None),
            latency_chart.latencies(rows, None),
        ):
            assert drawing is not None
            assert "nan" not in drawing
            assert "inf" not in drawing.replace("info", "")
    assert scatter_chart.scatter([one], None, None) is None
    assert charts.waterfall([SizePoint("a", 0), SizePoint("b", 0)]) is not None
    assert charts.waterfall([SizePoint("a", 1)]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.bytes_text(0), "0 B"),
        (units.bytes_text(999), "999 B"),
        (units.bytes_text(40_312), "40.3 kB"),
        (units.bytes_text(999_600), "1.00 MB"),
        (units.bytes_text(1_724_320), "1.72 MB"),
        (units.bytes_text(25e9), "25.0 GB"),
        (units.time_text(0.0331), "33.1 µs"),
        (units.time_text(0.9996), "1.00 ms"),
        (units.time_text(3.474), "3.47 ms"),
        (units.time_text(1500), "1.50 s"),
        (units.range_text(0.8, 1.2), "0.80–1.20 ms"),
        (units.points_text(-0.0012), "−0.12"),
        (units.points_text(-0.00001), "±0.00"),
        (units.points_text(0.003), "+0.30"),
        (units.times_text(42.77), "42.8×"),
        (units.times_text(0.5), "0.50×"),
        (units.seconds_text(0.04), "0.0 s"),
        (units.seconds_text(200), "3 min 20 s"),
    ],
)
def test_units(text: str, expected: str) -> None:
    assert text == expected


def test_wilson_interval_is_the_textbook_one() -> None:
    """Wilson (1927); 9 of 10 gives 0.596-0.982, and the ends are never passed."""
    assert units.wilson(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert units.wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert units.wilson(1.0, 10)[1] <= 1.0
    assert units.wilson(0.0, 10)[0] == 0.0


def test_a_smoke_run_has_a_banner_everywhere() -> None:
    report = make_report()
    smoke = replace(report, smoke=True)
    for render in (render_html, render_markdown):
        assert "This was a smoke run" in render(smoke)
        assert "smoke run" not in render(report)
    assert 'class="smoke"' in render_html(smoke)
    Page(render_html(smoke))
    (row,) = [x for x in TABLES["results"]([smoke]).splitlines() if "| dc, shared |" in x]
    assert "| deep-compression (smoke run) |" in row
    assert "smoke" not in TABLES["results"]([report])


def boxes_of_text(drawing: str) -> dict[str, svg.Box]:
    """Where each text of a drawing lies, by its words; sizes as the drawing estimates them."""
    found: dict[str, svg.Box] = {}
    pattern = r'<text x="([^"]+)" y="([^"]+)" text-anchor="(\w+)"[^>]*>([^<]*)</text>'
    for x, y, anchor, words in re.findall(pattern, drawing):
        width = len(words) * scatter_chart.FONT * svg.CHARACTER_WIDTH
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        top = float(y) - 0.8 * scatter_chart.FONT
        found[words] = svg.Box(left, top, left + width, float(y) + 0.25 * scatter_chart.FONT)
    return found


def test_the_floor_is_named_where_no_file_stands() -> None:
    """Files that lie on the line of the least top-1, at its right end."""
    sizes = (200_000, 180_000, 160_000, 150_000)
    rows = [
        make_row(f"net-{n}.{'tflite' if n % 2 else 'onnx'}", "int8", size, 1.0, 0.9869)
        for n, size in enumerate(sizes)
    ]
    drawing = scatter_chart.scatter(rows, 0.9869, None)
    assert drawing is not None
    boxes = boxes_of_text(drawing)
    note = boxes.pop("least allowed")
    assert not any(note.meets(other) for other in boxes.values())
    assert note.inside(svg.Box(0, 0, charts.WIDTH, 330))
    assert "least allowed" not in (scatter_chart.scatter(rows, None, None) or "")
