"""LiteRT sessions: layouts, types, tensors by name, and one line for each kind of bad file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.errors import DataError, MissingExtraError, RangeError
from compress.spec import TensorSpec
from targets.formats.tflite_sketch import Quantization, Sketch
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.tflite_bounds import is_whole

ROOT = Path(__file__).resolve().parents[3]


def adding(path: Path, shape: tuple[int, ...], dtype: str = "FLOAT32", name: str = "sum") -> Path:
    """A file that computes (x + x) + x, the inner sum under the output's own name."""
    sketch = Sketch()
    grid = Quantization(np.array([0.5], np.float32), np.array([-3]))
    quantization = None if dtype == "FLOAT32" else grid
    x, inner, outer = (
        sketch.tensor(label, shape, dtype, quantization=quantization) for label in ("x", name, name)
    )
    for pair, target in (((x, x), inner), ((inner, x), outer)):
        sketch.operator("ADD", 2, pair, [target], ("AddOptions", __options()))
    content = sketch.finish({"x": x}, {name: outer}, "{}")
    path.write_bytes(content)
    return path


def __options() -> object:
    from targets.formats.tflite_schema import schema

    return schema().AddOptionsT()


def test_pictures_go_in_as_nchw_whatever_the_file_wants(tmp_path: Path) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    session = LiteRtRuntime().load(adding(tmp_path / "a.tflite", (1, 4, 5, 3)))
    assert session.inputs == (TensorSpec("x", (1, 4, 5, 3), "float32", "NHWC"),)
    np.testing.assert_array_equal(session.predict(x), 3 * x.transpose(0, 2, 3, 1))
    foreign = LiteRtRuntime().load(adding(tmp_path / "b.tflite", (1, 3, 4, 5)))
    np.testing.assert_array_equal(foreign.predict(x), 3 * x)
    flat = LiteRtRuntime().load(adding(tmp_path / "c.tflite", (2, 6)))
    np.testing.assert_array_equal(flat.predict(x.reshape(20, 6)), 3 * x.reshape(20, 6))
    assert flat.predict(np.zeros((0, 6), np.float32)).shape == (0, 6)


def test_integer_ends_are_rounded_clipped_and_scaled_back(tmp_path: Path) -> None:
    session = LiteRtRuntime().load(adding(tmp_path / "i.tflite", (1, 6), "INT8"))
    x = np.array([[0.25, 0.75, -0.25, 5.1, 1000, -1000]], np.float32)
    # Scale 0.5, zero point -3: halves go to the even step; the ends of the range are 65 and -62.5.
    grid = np.array([[0.0, 1.0, 0.0, 5.0, 65.0, -62.5]], np.float32)
    np.testing.assert_array_equal(session.tensors(x)["x"], grid)
    np.testing.assert_array_equal(session.predict(x), np.clip(3 * grid, -62.5, 65))
    assert session.predict_raw(x).dtype == np.int8


def test_names_that_repeat_get_numbers(tmp_path: Path) -> None:
    x = np.ones((1, 6), np.float32)
    session = LiteRtRuntime().load(adding(tmp_path / "n.tflite", (1, 6)))
    found = session.tensors(x)
    assert list(found) == ["x", "sum;1", "sum;2"]
    assert [float(value.max()) for value in found.values()] == [1, 2, 3]


def test_wrong_pictures_are_one_line(tmp_path: Path) -> None:
    session = LiteRtRuntime().load(adding(tmp_path / "a.tflite", (1, 4, 5, 3)))
    with pytest.raises(DataError, match=r"input of shape \(4, 5, 3\) \(NHWC\); got .*\(3, 9, 9\)"):
        session.predict(np.zeros((1, 3, 9, 9), np.float32))
    pairs = LiteRtRuntime().load(adding(tmp_path / "b.tflite", (2, 6)))
    with pytest.raises(DataError, match="takes 2 pictures at a time; got 3"):
        pairs.predict(np.zeros((3, 6), np.float32))


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    good = adding(tmp_path / "good.tflite", (1, 6)).read_bytes()
    unknown = Sketch()
    x, y = (unknown.tensor(n, (1, 6), "FLOAT32") for n in "xy")
    unknown.operator("ADD", 99, [x, x], [y])
    cases = {
        "no .tflite file": b"ONNX or what",
        "cut short": good[: len(good) // 2],
        "cannot load": unknown.finish({"x": x}, {"y": y}, "{}"),
    }
    for words, content in cases.items():
        path = tmp_path / "bad.tflite"
        path.write_bytes(content)
        with pytest.raises(DataError, match=words) as caught:
            LiteRtRuntime().load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        LiteRtRuntime().load(tmp_path / "none.tflite")
    with pytest.raises(RangeError, match="at least 1"):
        LiteRtRuntime().load(tmp_path / "good.tflite", threads=0)


def test_every_cut_of_a_file_is_noticed(tmp_path: Path) -> None:
    content = adding(tmp_path / "a.tflite", (1, 6)).read_bytes()
    assert is_whole(content)
    assert [cut for cut in range(len(content)) if is_whole(content[:cut])] == []


def test_without_any_runtime_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = adding(tmp_path / "a.tflite", (1, 6))
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepress\[litert\]'"):
        LiteRtRuntime().load(path)


def test_running_a_file_needs_no_torch(tmp_path: Path) -> None:
    path = adding(tmp_path / "a.tflite", (1, 6))
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from targets.runtimes.litert import LiteRtRuntime\n"
        "LiteRtRuntime().load(Path(sys.argv[1])).predict(np.zeros((1, 6), np.float32))\n"
        "print(sorted({'torch', 'onnx', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_engine_says_nothing_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It tells of its delegate from C, whatever Python does with sys.stderr."""
    from concurrent.futures import ThreadPoolExecutor

    path = adding(tmp_path / "a.tflite", (1, 4))
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda _: LiteRtRuntime().load(path), range(8)))
    assert {s.provider for s in sessions} == {"XNNPACK"}
    assert capfd.readouterr().err == ""
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"
