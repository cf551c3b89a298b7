"""A container's account in report.json, report.html and report.md."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from targets.account import Account, FileAccount
from targets.account_words import ACCOUNT_COLUMNS
from targets.artifact import Artifact
from targets.assemble import _inspected
from targets.render import render_html, render_markdown
from targets.report import Report, read_report, write_report
from targets.rows import Entry
from tests.reports import make_report

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "sparse_lenet.v2.dc"

ACCOUNT = FileAccount(
    path="net<1>.dc",
    sha256="0" * 64,
    file_bytes=1500,
    overhead_bytes=100,
    tensors=(
        Account("ip1|weight", "gaps", 10_000, 1_000, 5, 4, 4.5, 3.25, 4_625, 1_253, 1_000),
        Account("ip2.weight", "context", 1_000, 500, 5, 0, 6.5, None, 4_000, 753, 380),
        Account("1 others, uncoded", "plain", 10, 10, 32, 0, 16.0, None, 40, 40, 20),
    ),
)


@pytest.fixture
def report() -> Report:
    return replace(make_report(), accounts=(ACCOUNT,))


def test_it_travels_in_the_report(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_markdown(report: Report) -> None:
    text = render_markdown(report)
    assert "net&lt;1&gt;.dc: P 5.1x, P+Q 21.5x, P+Q+H 29.4x: 1,500 bytes." in text
    lines = text.splitlines()
    assert f"| {' | '.join(ACCOUNT_COLUMNS)} |" in lines
    assert (
        "| ip1\\|weight | 10,000 | 10.0 % | 5 | 4.50 | 4 | 3.25 | 3.13 % (31.9x) "
        "| 2.50 % (40.0x) | 1,000 |"
    ) in lines
    assert any(
        line.startswith("| ip2.weight |") and "| 6.50 | 0 | with |" in line for line in lines
    )
    assert "| container itself | — | — | — | — | — | — | — | — | 100 |" in lines
    total = next(line for line in lines if line.startswith("| total |"))
    assert total.endswith("| 4.65 % (21.5x) | 3.41 % (29.4x) | 1,500 |")


def test_html(report: Report) -> None:
    page = render_html(report)
    assert "<h2>Where the bytes are</h2>" in page
    assert "net&lt;1&gt;.dc: P 5.1x" in page
    assert '<td data-of="Index bits (P+Q+H)">with</td>' in page
    assert page.count('<td data-of="Rate (P+Q+H)">') == 5


def test_a_report_without_containers_has_no_such_part() -> None:
    report = make_report()
    assert "Where the bytes are" not in render_html(report) + render_markdown(report)


def test_every_file_of_a_run_once_and_a_line_for_an_unreadable_one(tmp_path: Path) -> None:
    sha = hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    size = GOLDEN.stat().st_size
    artifact = Artifact(GOLDEN, "dc", "int8", sha, size, (), (), "0" * 64)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    other = replace(artifact, path=broken, format="onnx", sha256="1" * 64)
    (found,), (line,) = _inspected([Entry(artifact), Entry(other), Entry(artifact)])
    assert found.account is not None
    assert (found.account.path, found.account.sha256) == (GOLDEN.name, sha)
    assert found.sizes is not None
    assert found.sizes.file_bytes == found.account.file_bytes == size
    assert line.startswith("where the bytes of broken.onnx are: broken.onnx is no readable")
    assert str(tmp_path) not in line
