"""edgepress unpack: a container becomes a file that others load, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from recipes import cli
from recipes.commands.unpack import SUFFIXES
from targets.formats.deep_compression import DeepCompressionExporter
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_packed import OnnxPackedExporter
from tests.candidates import fresh
from tests.containers import sparse_lenet
from tests.recipes.commands import ROOT

WITHOUT = (
    "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split(',')))\n"
    "from recipes.cli import main\n"
    "sys.exit(main(['unpack', *sys.argv[2:]]))\n"
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
    assert cli.main(["unpack", *map(str, arguments)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("graph", [False, True])
def test_the_onnx_lies_beside_the_container(
    graph: bool, wanted: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["unpack", str(container(tmp_path, graph=graph)), "--to", "onnx"]) == 0
    path = tmp_path / "net.onnx"
    assert path.read_bytes() == wanted
    assert capsys.readouterr().out == f"{path}: {len(wanted):,} bytes\n"


def without(modules: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process where these modules cannot be imported."""
    command = [sys.executable, "-c", WITHOUT, modules, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_container_with_its_graph_needs_no_torch(wanted: bytes, tmp_path: Path) -> None:
    source = container(tmp_path, graph=True)
    lines = [
        without("torch,onnx,onnxruntime", source),
        without("torch,onnxruntime", source, "--to", "onnx-packed"),
        without("torch,onnx,onnxruntime", source, "--to", "state-dict"),
    ]
    assert [(done.returncode, done.stderr) for done in lines] == [(0, "")] * 3
    assert (tmp_path / "net.onnx").read_bytes() == wanted
    OnnxPackedExporter()(sparse_lenet(), tmp_path / "wanted")
    packed = tmp_path / "net.packed.onnx"
    assert packed.read_bytes() == (tmp_path / "wanted").read_bytes()
    path = tmp_path / "net.safetensors"
    found, state = load_file(path), sparse_lenet().network.state()
    assert found.keys() == state.keys()
    assert all(found[name].tobytes() == state[name].tobytes() for name in state)
    assert [done.stdout for done in lines] == [
        f"{tmp_path / 'net.onnx'}: {len(wanted):,} bytes\n",
        f"{packed}: {packed.stat().st_size:,} bytes\n",
        f"{path}: {path.stat().st_size:,} bytes, named as in the net after its 1 edits "
        f"(Factorized)\n",
    ]


def test_what_torch_is_needed_for_is_one_line(tmp_path: Path) -> None:
    source = container(tmp_path)
    for to in ("onnx", "onnx-packed", "tflite"):
        done = without("torch", source, "--to", to)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert done.stderr.endswith("run: pip install 'edgepress'\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.dc"]


def test_options_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = container(tmp_path)
    said = refused(capsys, source, "--profile", "modern")
    assert "--profile modern is for --to onnx-packed, not --to onnx" in said
    for nowhere in (".", "..", tmp_path / "no.dc", tmp_path):
        assert "does not exist or is no file" in refused(capsys, nowhere)
    path = tmp_path / "net.dc" / "a.onnx"  # below a file
    assert "net.dc" in refused(capsys, source, "--out", path, "--to", "state-dict")


def test_a_file_that_is_there_stays(
    wanted: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = container(tmp_path), tmp_path / "mine.onnx"
    path.write_text("mine")
    for to in SUFFIXES:
        assert "mine.onnx is there already" in refused(capsys, source, "--to", to, "--out", path)
    said = refused(capsys, source, "--out", path)
    assert "mine.onnx is there already; add --overwrite" in said
    assert path.read_text() == "mine"
    assert cli.main(["unpack", str(source), "--out", str(path), "--overwrite"]) == 0
    assert path.read_bytes() == wanted


def test_the_container_itself_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = container(tmp_path).rename(tmp_path / "net.onnx")
    before = source.read_bytes()
    assert "is the container itself" in refused(capsys, source, "--overwrite")
    assert "is a folder" in refused(capsys, source, "--out", tmp_path, "--overwrite")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is no ordinary file" in refused(capsys, source, "--out", pipe, "--overwrite")
    assert pipe.is_fifo()
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
