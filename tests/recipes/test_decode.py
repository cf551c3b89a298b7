"""edgepress decode: a container becomes the exporter's own .onnx, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recipes import cli
from targets.formats.deep_compression import DeepCompressionExporter
from targets.formats.onnx import OnnxExporter
from tests.candidates import fresh
from tests.containers import sparse_lenet
from tests.recipes.commands import ROOT

WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None\n"
    "from recipes.cli import main\n"
    "sys.exit(main(['decode', sys.argv[1]]))\n"
)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("wanted") / "c.onnx"
    OnnxExporter()(sparse_lenet(), path)
    return path.read_bytes()


def container(folder: Path, *, graph: bool = False) -> Path:
    path = folder / "net.dc"
    DeepCompressionExporter(graph=graph)(sparse_lenet(), path)
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["decode", *map(str, arguments)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("graph", [False, True])
def test_the_onnx_lies_beside_the_container(
    graph: bool, wanted: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["decode", str(container(tmp_path, graph=graph)), "--to", "onnx"]) == 0
    path = tmp_path / "net.onnx"
    assert path.read_bytes() == wanted
    assert capsys.readouterr().out == f"{path}: {len(wanted):,} bytes\n"


def test_a_container_with_its_graph_needs_no_torch(wanted: bytes, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(container(tmp_path, graph=True))]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "net.onnx").read_bytes() == wanted


def test_a_file_that_is_there_stays(
    wanted: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = container(tmp_path), tmp_path / "mine.onnx"
    path.write_text("mine")
    said = refused(capsys, source, "--out", path)
    assert "mine.onnx is there already; add --overwrite" in said
    assert path.read_text() == "mine"
    assert cli.main(["decode", str(source), "--out", str(path), "--overwrite"]) == 0
    assert path.read_bytes() == wanted


def test_the_container_itself_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = container(tmp_path).rename(tmp_path / "net.onnx")
    before = source.read_bytes()
    assert "is the container itself" in refused(capsys, source, "--overwrite")
    assert "is a folder" in refused(capsys, source, "--out", tmp_path, "--overwrite")
    assert source.read_bytes() == before


def test_what_is_no_container_replaces_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = tmp_path / "net.dc", tmp_path / "net.onnx"
    source.write_bytes(b"no container")
    path.write_text("mine")
    assert "net.dc" in refused(capsys, source, "--overwrite")
    assert path.read_text() == "mine"
    DeepCompressionExporter()(fresh(), source)  # a net that is not in compress.models
    assert "net.dc" in refused(capsys, source, "--overwrite")
    assert path.read_text() == "mine"
