"""report.json: round trip, determinism, and one line for everything that is wrong with one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.candidate import Step
from compress.errors import ReportError
from compress.spec import TensorSpec
from targets.artifact import Artifact, file_sha256
from targets.assemble import build_report, git_commit, layers_of
from targets.measurement import Measurement
from targets.report import Report, read_report, write_report
from targets.report_row import Row
from targets.rows import About, Baseline, Entry, Score
from targets.sizing.downloads import downloads
from tests.candidates import fresh, half_mask, shared
from tests.reports import make_report, make_row, sha, unmeasured

# Later fields, which need no reason where they are null.
ADDED = {
    *("agreement", "estimated_drop", "held_out", "logit_sqnr_db"),
    *("brotli_bytes", "zstd_bytes", "rss_load_bytes", "peak_rss_load_bytes"),
}
SCHEMA_1 = {
    *("model", "dataset", "method", "format", "precision", "path", "sha256", "file_bytes"),
    *("download_bytes", "params", "nonzeros", "macs", "top1", "top1_fp32", "samples", "runtime"),
    *("provider", "device", "threads", "load_ms", "latency_ms", "peak_rss_bytes", "instructions"),
    *("provenance", "noisy", "evaluated_sha256", "baseline_bytes", "ratio"),
}

CONTAINER = Path(__file__).parent.parent / "golden" / "sparse_lenet.v2.dc"


def artifact_of(path: Path, digest: str, kind: str = "onnx") -> Artifact:
    spec = (TensorSpec("x", (1, 1, 8, 8)),)
    size = path.stat().st_size
    return Artifact(path, kind, "shared", file_sha256(path), size, spec, spec, digest)


def measured(path: Path, **changes: Any) -> Measurement:
    usual = Measurement(
        file=path.name,
        sha256=file_sha256(path),
        runtime="onnxruntime",
        runtime_version="1.31.1",
        provider="CPUExecutionProvider",
        device="local",
        threads=1,
        load_ms=3.0000004,
        first_ms=0.2,
        times_ms=((1.0, 1.1, 1.2), (1.0, 1.3, 1.23456789)),
        warmups=(10, 10),
        settled=True,
        peak_rss_bytes=60_000_000,
        rss_base_bytes=50_000_000,
        provenance="measured",
        environment={"cpu": "a cpu", "load_average": 0.4},
    )
    return replace(usual, **changes)


def test_round_trip_and_equal_text(tmp_path: Path) -> None:
    report = make_report()
    path = tmp_path / "report.json"
    write_report(report, path)
    again = read_report(path)
    assert again == report
    assert again.to_json() == path.read_text() == make_report().to_json()


def test_json_has_schema_1() -> None:
    raw = json.loads(make_report().to_json())
    assert raw["schema"] == 1
    assert {"recipe", "git_commit", "seed", "created", "environment", "steps", "rows"} <= set(raw)
    for row in raw["rows"]:
        assert set(row) >= SCHEMA_1
        empty = {name for name in row if row[name] is None} - ADDED
        assert empty == set(row["not_measured"]) - ADDED
    assert set(raw["rows"][0]["latency_ms"]) == {"median", "p10", "p90", "runs"}


def test_lists_of_numbers_stay_on_one_line_and_strings_are_untouched() -> None:
    odd = '[\n 1,\n 2 ] \\ "quoted" é'
    report = replace(make_report(), recipe=odd)
    assert json.loads(report.to_json())["recipe"] == odd
    assert '"shape": [ 500, 800 ]' in report.to_json()


@given(st.text(max_size=30), st.floats(0, 1), st.integers(0, 10**12))
def test_any_text_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory, text: str, share: float, count: int
) -> None:
    text = text.encode("utf-8", "replace").decode()
    row = replace(make_row("net.onnx", "fp32", 5, 1.0, share), model=text, macs=count)
    report = make_report(row)
    path = tmp_path_factory.getbasetemp() / "any.json"
    write_report(report, path)
    assert read_report(path) == report


def test_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    raw = json.loads(make_report().to_json())
    raw["later"] = raw["rows"][0]["energy_mj"] = 3
    path = tmp_path / "report.json"
    path.write_text(json.dumps(raw))
    assert read_report(path) == make_report()


def first_row(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw["rows"][0].update(changes)


HOSTILE: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda raw: raw.update(schema=2), "schema is 2; this edgepress reads schema 1"),
    (lambda raw: raw.update(schema=True), "schema is True"),
    (lambda raw: raw.pop("schema"), "schema is None"),
    (lambda raw: raw.pop("rows"), "field 'rows' is missing"),
    (lambda raw: raw.update(rows={}), r"rows: found {}, a list is needed"),
    (lambda raw: raw.update(rows=[7]), r"rows\[0\]: found 7, an object is needed"),
    (lambda raw: raw.update(seed="0"), "seed: found '0', a whole number is needed"),
    (lambda raw: raw.update(seed=True), "seed: found True, a whole number is needed"),
    (lambda raw: raw.update(git_commit="; rm"), "git_commit is '; rm'; 40 hexadecimal"),
    (lambda raw: raw.update(max_drop=-1), "max_drop is -1.0; 0..1 is allowed"),
    (lambda raw: raw.update(environment=[1]), "environment: found .*, an object is needed"),
    (lambda raw: raw["environment"].update(cpu=[]), "environment.*cpu.*: found"),
    (lambda raw: raw["steps"][1].update(skipped=[1]), r"steps\[1\]\.skipped\[0\]: found 1"),
    (lambda raw: raw["steps"][1]["metrics"].update(top1="x"), r"metrics.*found 'x', a number"),
    (lambda raw: raw["layers"][0].update(nonzeros=10**9), r"layers\[0\]: layer 'ip1.weight' has"),
    (lambda raw: raw["sizes"][0].update(bytes=-1), r"sizes\[0\]: bytes is -1"),
    (first_row(top1="0.9"), r"rows\[0\]\.top1: found '0.9', a number is needed"),
    (first_row(top1=1.5), r"rows\[0\]: top1 is 1.5; 0..1 is allowed"),
    (first_row(top1=None), "'top1' is null without a reason in not_measured"),
    (first_row(top1=10**400), "a finite number is needed"),
    (first_row(file_bytes=1.5), r"file_bytes: found 1.5, a whole number is needed"),
    (first_row(file_bytes=-5), "file_bytes is -5; 0 or more is allowed"),
    (first_row(sha256="../../etc"), "sha256 is '../../etc'; 64 hexadecimal digits"),
    (first_row(provenance="guessed"), "found 'guessed', allowed: 'measured', 'emulated'"),
    (first_row(samples=0), "samples is 0; 1 or more are needed"),
    (first_row(latency_ms={"median": 1, "p10": 2, "p90": 3, "runs": 4}), "p10 <= median <= p90"),
    (first_row(latency_ms={"median": 1, "p10": 1, "p90": 3}), "field 'runs' is missing"),
    (first_row(times_ms=[[1, "x"]]), r"times_ms\[0\]\[1\]: found 'x', a number is needed"),
    (first_row(not_measured={"instructions": "why", "top1": "why"}), "but has a value"),
    (first_row(not_measured={"instructions": "why", "nonsense": "why"}), "is no field"),
]


@pytest.mark.parametrize(("spoil", "says"), HOSTILE)
def test_a_spoilt_report_is_one_line(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    raw = json.loads(make_report().to_json())
    spoil(raw)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(ReportError, match=says) as caught:
        read_report(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 200_000, b'{"schema": NaN}', b"[]", b"null", b"9" * 9999],
)
def test_what_is_no_report_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        read_report(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReportError, match="No such file"):
        read_report(tmp_path / "other.json")


def test_a_row_explains_each_gap() -> None:
    row = make_row("net.onnx", "int8", 5, 1.0, 0.9)
    with pytest.raises(ReportError, match="'macs' is null without a reason"):
        replace(row, macs=None)
    assert unmeasured(row).latency_ms is None
    optional = {f.name for f in fields(Row) if f.default is None}
    assert optional >= SCHEMA_1 - {"model", "dataset", "method", "format", "precision", "path"} - {
        *("sha256", "file_bytes", "download_bytes")
    }


def test_download_is_what_a_zip_holds(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(bytes(range(256)) * 50 + b"\0" * 5000)
    with zipfile.ZipFile(tmp_path / "app.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as app:
        app.write(path)
        assert downloads(path.read_bytes()).zip_bytes == app.infolist()[0].compress_size


def test_layers_tell_zeros_bits_and_encoding() -> None:
    candidate = fresh()
    shapes = {n: p.shape for n, p in candidate.network.parameters().items()}
    mask = half_mask(shapes["fc1.weight"])
    candidate = candidate.with_values(
        {}, {"fc1.weight": mask, "fc2.weight": shared(shapes["fc2.weight"], codes=8)}
    )
    layers = {layer.name: layer for layer in layers_of(candidate)}
    assert layers["fc1.weight"].encoding == "pruned"
    assert layers["fc1.weight"].bits == 32
    assert layers["fc1.weight"].nonzeros == int(mask.mask.sum())
    assert layers["fc1.weight"].sparsity == pytest.approx(1 - mask.mask.mean(), abs=1e-6)
    assert (layers["fc2.weight"].encoding, layers["fc2.weight"].bits) == ("shared", 3)
    assert (layers["fc1.bias"].encoding, layers["fc1.bias"].bits) == ("float32", 32)


def built(tmp_path: Path) -> Report:
    dense = fresh()
    shapes = {n: p.shape for n, p in dense.network.parameters().items()}
    final = dense.with_values({}, {"fc1.weight": half_mask(shapes["fc1.weight"])})
    final = replace(final, history=(Step("PruneMagnitude", "PruneMagnitude()", 1.5, ("fc1",)),))
    net, container = tmp_path / "net.onnx", tmp_path / "net.dc"
    net.write_bytes(b"n" * 1000)
    container.write_bytes(CONTAINER.read_bytes())
    base = tmp_path / "base.onnx"
    base.write_bytes(b"b" * 4000)
    entries = [
        Entry(artifact_of(base, dense.digest()), Score(0.9, 400), measured(base), "none"),
        Entry(
            artifact_of(net, final.digest()),
            Score(0.89, 400, won=2, lost=6),
            measured(net, provenance="emulated"),
        ),
        Entry(
            artifact_of(container, final.digest(), "dc"),
            Score(0.89, 400, evaluated_sha256=file_sha256(net)),
            reasons={"won": "the same weights as net.onnx"},
        ),
    ]
    return build_report(
        About("recipe", "net", "digits", "prune", seed=3),
        [dense, final],
        entries,
        baseline=Baseline(4 * 1234, 0.9),
        sizes={"fp32": 4000, "PruneMagnitude": 1000},
        created=datetime(2026, 1, 31, tzinfo=UTC),
    )


def test_build_report_ties_files_candidates_and_measurements(tmp_path: Path) -> None:
    report = built(tmp_path)
    base, net, container = report.rows
    assert base.params is not None
    assert base.params == net.params
    assert base.baseline_bytes == net.baseline_bytes == 4 * 1234
    assert {row.top1_fp32 for row in report.rows} == {0.9}
    assert base.nonzeros is not None
    assert net.nonzeros is not None
    assert net.nonzeros < base.nonzeros
    assert base.method == "none"
    assert net.method == "prune"
    assert (net.won, net.lost) == (2, 6)
    assert base.latency_ms is not None
    assert base.latency_ms.runs == 6
    assert base.times_ms == ((1.0, 1.1, 1.2), (1.0, 1.3, 1.2346))
    assert base.load_ms == 3.0
    assert base.ratio == pytest.approx((base.baseline_bytes or 0) / 4000, rel=1e-4)
    assert container.evaluated_sha256 == net.sha256
    assert base.evaluated_sha256 == base.sha256
    assert report.created == "2026-01-31T00:00:00+00:00"
    assert report.steps[0].touched == ("fc1",)
    assert report.environment["cpu"] == "a cpu"
    assert report.environment["torch"]
    assert [p.bytes for p in report.sizes] == [4000, 1000]
    path = tmp_path / "report.json"
    write_report(report, path)
    assert read_report(path) == report


def test_emulated_time_is_no_latency_and_gaps_have_their_reasons(tmp_path: Path) -> None:
    base, net, container = built(tmp_path).rows
    assert net.latency_ms is net.times_ms is net.noisy is net.load_ms is None
    assert net.provenance == "emulated"
    assert net.not_measured["latency_ms"] == "emulated time is not latency"
    assert "no stock runtime" in container.not_measured["latency_ms"]
    assert container.not_measured["won"] == "the same weights as net.onnx"
    assert "not compared image by image" in base.not_measured["won"]


def test_build_report_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    candidate = fresh()
    path = tmp_path / "net.onnx"
    path.write_bytes(b"n" * 1000)
    artifact = artifact_of(path, candidate.digest())
    about = About("recipe", "net", "digits", "prune", seed=0)
    other = measured(path, sha256=sha("another file"))
    with pytest.raises(ReportError, match="is of another file"):
        build_report(about, [candidate], [Entry(artifact, measurement=other)])
    path.write_bytes(b"grown" * 1000)
    with pytest.raises(ReportError, match="5000 bytes, 1000 when it was exported"):
        build_report(about, [candidate], [Entry(artifact)])
    with pytest.raises(ReportError, match="at least one candidate"):
        build_report(about, [], [])


def test_git_commit_is_of_our_own_tree_or_none() -> None:
    commit = git_commit()
    assert commit is None or replace(make_report(), git_commit=commit).git_commit == commit


def test_smoke_is_an_addition_that_old_reports_lack(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(replace(make_report(), smoke=True), path)
    assert read_report(path).smoke is True
    raw = json.loads(path.read_text())
    assert raw["smoke"] is True
    assert raw["schema"] == 1
    del raw["smoke"]
    path.write_text(json.dumps(raw))
    assert read_report(path).smoke is False
    path.write_text(json.dumps({**raw, "smoke": "yes"}))
    with pytest.raises(ReportError, match="smoke: found 'yes', true or false is needed"):
        read_report(path)
