"""edgepress table: the table of reports, alone and inside a file; the README's own is current."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.errors import OutputError
from recipes.cli import USER_ERROR, main
from recipes.commands.table import BENCH, insert
from targets.bench_log_table import log_table
from targets.render import TABLES
from targets.report import read_report
from targets.report_row import Row

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "results"
RESULTS = sorted(FOLDER.glob("*.json"))
LOGS = sorted(FOLDER.glob("*.bench.*.jsonl"))
MAIN = [*FOLDER.glob("lenet5.deep*.json"), *sorted(FOLDER.glob("*-imagenet.int8.*.json"))]
BEGIN, END = "<!-- results:", "<!-- /results -->"
TEXT = f"above\n{BEGIN} anything -->\nold\n{END}\nbelow\n"


@pytest.mark.parametrize(("readme", "results"), [(ROOT, MAIN), (FOLDER, RESULTS)])
def test_the_readmes_show_the_results_as_they_are(readme: Path, results: list[Path]) -> None:
    assert len(results) >= 3
    text = (readme / "README.md").read_text(encoding="utf-8")
    reports = [read_report(path) for path in results]
    assert insert(text, TABLES["results"](reports), "README.md") == text, "run `make results`"


@pytest.mark.parametrize("name", ["containers", "packed", "int8", "devices"])
def test_the_readme_shows_one_kind_of_files_as_they_are(name: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    smallest = ("deep-compression", "smallest", "rate")
    chosen = [path for path in RESULTS if path.name.split(".")[1] in smallest]
    patterns = {
        "int8": ("*.int8-trained.*", "resnet*.int8.*", "*-imagenet.int[48].*"),
        "devices": ("*.forms.*",),
    }
    if name in patterns:
        chosen = [path for pattern in patterns[name] for path in sorted(FOLDER.glob(pattern))]
    table = TABLES[name]([read_report(path) for path in chosen])
    assert insert(text, table, "README.md", name) == text, "run `make results`"


def test_the_results_show_the_logs_as_they_are() -> None:
    assert len(LOGS) >= 3
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert insert(text, log_table(LOGS), "README.md", BENCH) == text, "run `make results`"


@pytest.mark.parametrize(
    ("title", "net"),
    [
        ("SqueezeNet 1.1", "squeezenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("ShuffleNetV2", "shufflenet_v2"),
    ],
)
def test_the_readme_says_of_the_small_nets_what_their_results_say(title: str, net: str) -> None:
    """Its table of fewer operations: pictures won less lost, shares of the time, containers."""
    cut, thin = (small_net(net, method) for method in ("channels", "svd"))
    shared = cut["channels-shared.dc"]
    container = f"{shared.file_bytes / 1000:.1f} kB, {shared.ratio:.1f}×"
    narrower = ", ".join(
        won(cut[f]) if f in cut else "—" for f in ("0.75-fp32.onnx", "0.5-fp32.onnx")
    )
    cells = [
        *(title, won(cut["channels.onnx"]), times(cut, "channels"), won(cut["channels-int8.onnx"])),
        f"{won(shared)}, {container}",
        *(won(thin["svd.onnx"]), times(thin, "svd"), won(thin["svd-int8.onnx"]), narrower),
    ]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(cells)} |\n" in text


def small_net(net: str, method: str) -> dict[str, Row]:
    """The rows of its result, by what follows the net's name in theirs."""
    (path,) = FOLDER.glob(f"{net}-cifar10.{method}.*.json")
    rows = read_report(path).rows
    name = rows[0].path.removesuffix("fp32.onnx")
    return {row.path.removeprefix(name): row for row in rows}


def won(row: Row) -> str:
    assert row.won is not None
    assert row.lost is not None
    net = row.won - row.lost
    return f"{'±' if not net else '+' if net > 0 else '−'}{abs(net)}"


def times(rows: dict[str, Row], label: str) -> str:
    """Medians in parts of the whole net's, in onnxruntime and LiteRT."""
    pairs = [(rows[f"{label}.{end}"], rows[f"fp32.{end}"]) for end in ("onnx", "tflite")]
    parts: list[str] = []
    for one, whole in pairs:
        assert one.latency_ms is not None
        assert whole.latency_ms is not None
        parts.append(f"{one.latency_ms.median / whole.latency_ms.median:.2f}")
    return ", ".join(parts)


def test_every_result_says_how_it_was_made() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in RESULTS:
        assert f"`{'.'.join(path.name.split('.')[:2])}.*`" in text, path.name
    assert [path.name for path in LOGS if f"`{path.name}`" not in text] == []


def test_the_table_replaces_what_stood_between_the_marks() -> None:
    once = insert(TEXT, "| a |\n", "x.md")
    assert once == f"above\n{BEGIN} anything -->\n\n| a |\n\n{END}\nbelow\n"
    assert insert(once, "| a |", "x.md") == once


@pytest.mark.parametrize(
    "text", ["", BEGIN, f"{END}\n{BEGIN}\n", TEXT + TEXT], ids=["none", "no end", "turned", "two"]
)
def test_a_file_without_its_place_is_refused(text: str) -> None:
    with pytest.raises(OutputError, match=r"x\.md has no place for the table"):
        insert(text, "| a |", "x.md")


def test_containers_alone_with_the_pictures_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "--containers", *map(str, RESULTS)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [row for path in RESULTS for row in read_report(path).rows if row.format == "dc"]
    assert len(lines) == 2 + len(rows) > 2
    row = rows[0]
    (line,) = (line for line in lines if f"| {row.file_bytes:,} B |" in line)
    assert f"| {row.lost} lost, {row.won} won of {row.samples:,} |" in line
    page = tmp_path / "page.md"
    page.write_text("<!-- containers: x -->\nold\n<!-- /containers -->\n")
    assert main(["table", "--containers", str(RESULTS[0]), "--into", str(page)]) == 0
    assert "old" not in page.read_text()


def test_the_command_prints_or_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", *map(str, RESULTS)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| Model |")
    assert printed.count("\n") == 2 + sum(len(read_report(p).rows) for p in RESULTS)
    page = tmp_path / "page.md"
    page.write_text(TEXT)
    assert main(["table", str(RESULTS[0]), "--into", str(page)]) == 0
    assert "old" not in page.read_text()
    assert page.read_text().startswith("above\n")


def test_a_missing_page_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(RESULTS[0]), "--into", str(tmp_path / "none.md")]) == USER_ERROR
    assert capsys.readouterr().err.count("\n") == 1
