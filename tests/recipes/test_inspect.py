"""edgepress inspect: the figures are those of the file, and every other file is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from compress.candidate import Candidate
from compress.checkpoint import save_candidate
from compress.errors import EdgepressError
from recipes.cli import USER_ERROR, main
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.inspection import Inspection, inspect_file
from targets.metadata import KEY, artifact_metadata
from tests.candidates import fresh, mixed
from tests.containers import Json, sparse_lenet, with_about, write_untraced

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sparse() -> Candidate:
    return sparse_lenet()


@pytest.fixture
def container(sparse: Candidate, tmp_path: Path) -> Path:
    return write_untraced(sparse, tmp_path / "c.dc")


@pytest.fixture
def graph(sparse: Candidate, tmp_path: Path) -> Path:
    """y = x W + b with its metadata, W int8 behind a DequantizeLinear."""
    weight = np.array([[1, 0], [0, -3], [0, 0]], np.int8)
    constants = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array(0.5, np.float32), "s"),
        numpy_helper.from_array(np.array([0, 1], np.float32), "b"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
        helper.make_node("Gemm", ["x", "real", "b"], ["y"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["batch", 3]), ("y", ["batch", 2]))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "net", *ends, constants),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    helper.set_model_props(model, {KEY: artifact_metadata(sparse)})
    path = tmp_path / "g.onnx"
    onnx.save(model, path)
    return path


def by_name(found: Inspection) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in found.tensors}


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says of a file; exit code 2, nothing on stdout."""
    assert main(["inspect", str(path)]) == USER_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgepress: ")
    assert err.count("\n") == 1
    assert str(path) in err
    return err


def test_a_container(container: Path, sparse: Candidate) -> None:
    found = inspect_file(container)
    size = container.stat().st_size
    assert found.file_bytes == size
    assert sum(found.parts.values()) == size
    assert found.parts["payload"] == sum(tensor.file_bytes for tensor in found.tensors)
    state = sparse.network.state()
    tensors = by_name(found)
    assert {n: t.shape for n, t in tensors.items()} == {n: a.shape for n, a in state.items()}
    for name, array in state.items():
        assert tensors[name].nonzeros == np.count_nonzero(array)
    assert found.fp32_bytes == 4 * sum(array.size for array in state.values())
    assert found.ratio == pytest.approx(found.fp32_bytes / size)
    forms = {n: t.form for n, t in tensors.items() if n.endswith("weight")}
    assert forms == {
        "fc1.weight": "masked",
        "fc2.0.weight": "shared",
        "fc2.1.weight": "masked",
        "fc3.weight": "int8",
    }
    shared = tensors["fc2.0.weight"]
    # 5 codes need 3 bits. Its 42 bytes are 1 for the count of codes, 11 for the codebook, 1 for the
    # scale, 4 that say how gaps are coded, and 25 of gaps and codes for 42 kept weights.
    assert (shared.index_bits, shared.coding, shared.gap_bits) == (3, "gaps", 6)
    assert (shared.file_bytes, shared.nonzeros) == (42, 42)
    assert shared.coded_bits == pytest.approx(8 * 29 / 42)
    assert tensors["fc2.1.weight"].coded_bits is None
    assert found.says["model"] == "lenet300"
    assert found.says["history"] == ["PruneMagnitude(sparsity=0.9)"]
    assert found.says["digest"] == sparse.digest()
    assert found.says["preprocess"]["mean"] == (0.1307,)
    assert found.precision == "shared"
    assert not found.says["graph"]


@pytest.mark.parametrize("grids", [False, True])
def test_a_whole_container_is_verified(tmp_path: Path, grids: bool) -> None:
    found = inspect_file(write_untraced(sparse_lenet(grids=grids), tmp_path / "c.dc"))
    assert found.says["verified"].startswith("yes")


CHANGES: dict[str, Callable[[Json], Json]] = {
    "builder": lambda about: {**about, "spec": {**about["spec"], "builder": "mine.nets:other"}},
    "classes": lambda about: {**about, "spec": {**about["spec"], "classes": ["a"] * 10}},
    "preprocess": lambda about: {
        **about,
        "spec": {**about["spec"], "preprocess": {**about["spec"]["preprocess"], "mean": [0.5]}},
    },
    "float nodes": lambda about: {**about, "float_nodes": []},
    "edits": lambda about: {**about, "edits": []},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_description_is_seen(
    container: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_about(container, CHANGES[what])
    found = inspect_file(container)
    assert found.says["verified"].startswith("NO: they have ")
    if what == "builder":
        assert found.says["model"] == "other (built by mine.nets:other)"
    assert main(["inspect", str(container)]) == 0
    assert "verified   NO: " in capsys.readouterr().out


def test_a_container_needs_no_torch(container: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from recipes.cli import main\n"
        "sys.exit(main(['inspect', sys.argv[1]]))\n"
    )
    command = [sys.executable, "-c", script, str(container)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "fc2.0.weight  3 x 300" in done.stdout
    assert "verified   yes" in done.stdout


def test_the_table_of_a_container(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(container)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    size = container.stat().st_size
    lines = out.splitlines()
    assert lines[0] == f"{container}: dc, shared, {size:,} bytes"
    assert lines[1] == f"fp32 weights 951,240 bytes, {951_240 / size:.2f} times this file"
    assert "stage      PruneMagnitude(sparsity=0.9)" in lines
    row = next(line for line in lines if line.startswith("fc2.0.weight"))
    cells = ["fc2.0.weight", "3", "x", "300", "shared", "4.7%", "3", "b"]
    assert row.split()[:8] == cells
    total = next(line for line in lines if line.startswith("7 tensors"))
    assert total.split()[2] == "237,810"
    paper = next(line for line in reversed(lines) if line.startswith("fc2.0.weight"))
    assert paper.split()[:4] == ["fc2.0.weight", "900", "4.7", "%"]
    assert paper.split()[4:8] == ["3", "2.48", "6", "2.29"]
    total = next(line for line in lines if line.startswith("total"))
    assert total.split()[-1] == f"{size:,}"


def test_json_is_the_same_data(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(container), "--json"]) == 0
    raw = json.loads(capsys.readouterr().out)
    found = inspect_file(container)
    assert raw.pop("run") is None
    assert raw.pop("downloads")["zip_bytes"] > 0
    assert raw == json.loads(json.dumps(found.to_dict()))
    assert raw["ratio"] == found.ratio
    assert raw["tensors"][1]["name"] == "fc1.weight"


def test_float_weights_beside_grids_make_a_container_mixed(tmp_path: Path) -> None:
    found = inspect_file(write_untraced(sparse_lenet(grids=True), tmp_path / "c.dc"))
    assert (found.precision, found.says["grids"]) == ("mixed", 2)


def test_an_onnx_file(graph: Path, sparse: Candidate, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect_file(graph)
    assert found.operators == {"DequantizeLinear": 1, "Gemm": 1}
    assert (found.opset, found.precision) == (18, "int8")
    assert (found.inputs, found.outputs) == (("x float32 [batch, 3]",), ("y float32 [batch, 2]",))
    tensors = by_name(found)
    assert (tensors["w"].kept, tensors["w"].dtype) == (pytest.approx(1 / 3), "int8")
    assert found.parts["int8"] == tensors["w"].file_bytes >= 6
    assert sum(found.parts.values()) == graph.stat().st_size
    assert found.says["digest"] == sparse.digest()
    assert found.says["classes"] == [str(digit) for digit in range(10)]
    assert main(["inspect", str(graph)]) == 0
    out = capsys.readouterr().out
    assert "operators  1 DequantizeLinear, 1 Gemm" in out
    assert "opset 18" in out


def test_an_onnx_file_of_another_maker(graph: Path) -> None:
    model = onnx.load(graph)
    del model.metadata_props[:]
    onnx.save(model, graph)
    assert inspect_file(graph).says == {}


def test_a_packed_onnx_file(
    sparse: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of tensors that lie in constants of all tensors; a hostile file is one line."""
    path = tmp_path / "p.onnx"
    OnnxPackedExporter()(sparse, path)
    capsys.readouterr()
    size = path.stat().st_size
    assert main(["inspect", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"{path}: onnx-packed, shared, {size:,} bytes"
    row = next(line for line in lines if line.startswith("fc2.0.weight"))
    assert row.split()[:6] == ["fc2.0.weight", "3", "x", "300", "shared", "4.7%"]
    parts = dict(line.split()[:2] for line in lines[lines.index("") :] if line.endswith("%"))
    assert {"planes", "tree", "scale", "decoding", "graph"} <= set(parts)
    model = onnx.load(path)
    big = numpy_helper.from_array(np.array([1 << 44, 1], np.int64), ":big")
    model.graph.initializer.append(big)
    model.graph.node.insert(0, helper.make_node("Expand", [":tree", ":big"], [":huge"]))
    path.write_bytes(model.SerializeToString())
    assert "bytes of arrays of its constants" in refused(path, capsys)


def test_a_tflite_file(sparse: Candidate, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert.schema_py_generated")
    from targets.formats.tflite_sketch import Sketch

    sketch = Sketch()
    x = sketch.tensor("x", (1, 4), "FLOAT32")
    y = sketch.tensor("y", (1, 4), "FLOAT32")
    halves = sketch.tensor("half", (1, 4), "FLOAT32", np.float32([[0, 0.5, 0, 0.5]]))
    sketch.operator("MUL", 1, [x, halves], [y])
    path = tmp_path / "t.tflite"
    path.write_bytes(sketch.finish({"x": x}, {"y": y}, artifact_metadata(sparse)))
    found = inspect_file(path)
    assert found.operators == {"MUL": 1}
    assert (found.inputs, found.outputs) == (("x float32 [1, 4]",), ("y float32 [1, 4]",))
    assert [(t.name, t.kept, t.file_bytes) for t in found.tensors] == [("half", 0.5, 16)]
    assert (found.says["model"], found.says["digest"]) == ("lenet300", sparse.digest())
    assert sum(found.parts.values()) == path.stat().st_size


def test_only_what_a_file_needs_is_imported() -> None:
    """A machine that looks at files needs no torch, and gets its answer at once."""
    heavy = "{'torch', 'onnx', 'onnxruntime', 'jax', 'brotli', 'zstandard'} & set(sys.modules)"
    for module, wanted in (("inspection_tflite", set[str]()), ("inspection_onnx", {"onnx"})):
        script = f"import sys, targets.{module}; print(sorted({heavy}))"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(sorted(wanted))


def test_tflite_without_its_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    path = tmp_path / "t.tflite"
    golden = ROOT / "tests" / "golden" / "sparse_lenet.v2.dc"
    path.write_bytes(golden.read_bytes())
    assert "no whole .tflite file" in refused(path, capsys)
    from targets import inspection_tflite

    monkeypatch.setattr(inspection_tflite, "is_whole", lambda _: True)
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))
    assert main(["inspect", str(path)]) == USER_ERROR
    err = capsys.readouterr().err
    assert "run: pip install 'edgepress[litert]'" in err
    assert err.count("\n") == 1


def test_a_checkpoint_and_plain_weights(tmp_path: Path) -> None:
    candidate = mixed(fresh())
    save_candidate(candidate, tmp_path / "c.safetensors")
    found = inspect_file(tmp_path / "c.safetensors")
    assert found.says == {"content": "candidate"}
    tensors = by_name(found)
    assert {n: t.form for n, t in tensors.items()} == {
        "fc1.bias": "plain",
        "fc1.weight": "masked",
        "fc2.bias": "plain",
        "fc2.weight": "shared",
    }
    weight = candidate.network.parameters()["fc1.weight"]
    assert tensors["fc1.weight"].kept == np.count_nonzero(weight) / weight.size
    assert sum(found.parts.values()) == found.file_bytes
    plain = tmp_path / "w.safetensors"
    plain.write_bytes(save({"a": np.array([0, 2], np.float32)}))
    found = inspect_file(plain)
    assert found.says == {"content": "plain weights"}
    assert (found.tensors[0].kept, found.fp32_bytes, found.precision) == (0.5, 8, "fp32")


# -- what is no such file ---------------------------------------------------------------------


def test_missing_and_unknown_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(tmp_path / "none.dc", capsys)
    assert "does not exist or is no file" in refused(tmp_path, capsys)
    for name in ("a.pt", "noname", "a.dc.gz"):
        (tmp_path / name).write_bytes(b"x")
        assert "give one of .dc, .onnx, .tflite, .safetensors" in refused(tmp_path / name, capsys)


@pytest.mark.parametrize("suffix", [".dc", ".onnx", ".tflite", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no such file", b"\x00" * 100, b"\x08" * 7])
def test_files_that_are_not_what_they_are_called(
    suffix: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(content)
    refused(path, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("suffix", [".dc", ".onnx", ".tflite", ".safetensors"])
def test_a_file_without_the_right_to_read_it(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"secret{suffix}"
    path.write_bytes(b"x")
    path.chmod(0)
    refused(path, capsys)


@pytest.mark.parametrize("name", ["spec", "history", "edits", "activations", "digest"])
@pytest.mark.parametrize("wrong", [None, 3, "x", [1]])
def test_a_container_that_says_nonsense(container: Path, name: str, wrong: Json) -> None:
    """The line or the data; inspecting is not loading, so a wrong digest may be shown."""
    with_about(container, lambda about: {**about, name: wrong})
    try:
        found = inspect_file(container)
    except EdgepressError as error:
        line = str(error)
        found = None
    if found is None:
        assert line.startswith(f"{container}: part 'about' is damaged")
        assert "\n" not in line
    else:
        assert name in ("edits", "activations", "digest")


@pytest.mark.parametrize("name", ["container", "graph"])
def test_every_damaged_byte_is_a_line_or_data(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    data = bytearray(path.read_bytes())
    outcomes = {True: 0, False: 0}
    for place in range(0, len(data), 5):
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        data[place] ^= 1 << (place % 8)
        try:
            found = inspect_file(path)
        except EdgepressError as error:
            outcomes["\n" in str(error)] += 1
        else:
            json.dumps(found.to_dict())
    assert not outcomes[True]
    assert outcomes[False] > 20


def test_an_onnx_file_with_its_weights_elsewhere(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(graph)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    graph.write_bytes(model.SerializeToString())
    assert "keeps 'w' in another file" in refused(graph, capsys)


def test_an_onnx_file_with_damaged_metadata(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(graph)
    model.metadata_props[0].value = "{"
    graph.write_bytes(model.SerializeToString())
    assert main(["inspect", str(graph)]) == USER_ERROR
    assert "metadata is damaged" in capsys.readouterr().err


def test_weights_of_a_pickle_are_not_inspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(2)}, path)
    assert "kind that cannot be inspected (.pt)" in refused(path, capsys)
