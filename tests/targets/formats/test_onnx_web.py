"""Every kind of .onnx file in the browser's runtime: onnxruntime-web's WebAssembly, under Node.

Needs Node and the package, which `make web` puts into build/web; EDGEPRESS_WEB names another
folder with node_modules. Skipped, with the reason, where one is missing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import recipes
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.elsewhere import answers
from tests.onnx_kinds import KINDS

ROOT = Path(recipes.__file__).parents[1]
SCRIPT = Path(__file__).with_name("web_answers.mjs")
FloatArray = NDArray[np.float32]


def modules() -> Path:
    """The node_modules with onnxruntime-web in it."""
    named = os.environ.get("EDGEPRESS_WEB")
    folder = (Path(named) if named else ROOT / "build" / "web").resolve() / "node_modules"
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: the files were not run in onnxruntime-web")
    if not (folder / "onnxruntime-web").is_dir():
        assert named is None, f"EDGEPRESS_WEB={named}: there is no {folder}/onnxruntime-web"
        pytest.skip(f"onnxruntime-web is not in {folder}; run: make web")
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FloatArray]:
    return answers(["node", str(SCRIPT), str(modules())], tmp_path_factory.mktemp("web"))


@pytest.mark.parametrize("name", KINDS)
def test_onnxruntime_web_gives_the_same_top1(name: str, found: dict[str, FloatArray]) -> None:
    kind = KINDS[name]
    expected = OnnxRuntime().load(kind.artifact().path).predict(kind.pictures())
    assert found[name].shape == expected.shape
    np.testing.assert_array_equal(found[name].argmax(1), expected.argmax(1))
    if not kind.candidate().activations:
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in KINDS if ", packed" in name])
def test_packed_files_give_the_bits_of_the_plain_ones_there_too(
    name: str, found: dict[str, FloatArray]
) -> None:
    plain = name.partition(", packed")[0]
    assert found[name].tobytes() == found[plain].tobytes()
