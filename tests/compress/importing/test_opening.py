"""open_model: files and functions become candidates, which stages and exporters take as any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from compress.candidate import Candidate
from compress.edit import rebuild
from compress.errors import CheckpointError, ModelError, SpecError
from compress.importing.opening import open_model, opened
from compress.importing.templates import imported
from compress.models.presets import IMAGENET_PREPROCESS
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import Preprocess
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Task
from targets.equivalence import assert_equivalent
from targets.formats.dc_skeleton import write_onnx
from targets.formats.deep_compression import DeepCompressionExporter
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.imported import assert_imported
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.foreign import legacy, lively, pictures
from tests.nets import digits_branch_spec, digits_residual_spec

SPECS = {"residual": digits_residual_spec, "branch": digits_branch_spec}
KEPT = {"training": torch.onnx.TrainingMode.PRESERVE}


def foreign(name: str, folder: Path) -> Path:
    spec = SPECS[name]()
    path = folder / f"{name} net.onnx"
    return legacy(lively(spec.build()), spec.input_shape, path, opset_version=13, **KEPT)


@pytest.mark.parametrize("name", SPECS)
def test_stages_and_exporters_take_an_imported_net(name: str, tmp_path: Path) -> None:
    path = foreign(name, tmp_path)
    candidate = open_model(str(path))
    batch = pictures(candidate.spec.input_shape, 32)
    assert assert_imported(candidate, path, batch) < 1e-6
    task = Task(evaluate=lambda _: {}, fingerprint="", calibration=lambda: iter([batch]))
    folded = FoldBatchNorm()(candidate, task).candidate
    shared = ShareWeights(bits=4)(folded, task).candidate
    integer = QuantizeInt8()(folded, task).candidate
    for made in (folded, shared, integer):
        made.check()
    assert not any("norm" in type(m).__name__.lower() for m in folded.network.module().modules())
    for made in (folded, integer):
        onnx_file = OnnxExporter()(made, tmp_path / "out.onnx")
        assert_equivalent(made, onnx_file, OnnxRuntime(), batch)
    tflite = TFLiteExporter()(integer, tmp_path / "out.tflite")
    assert_equivalent(integer, tflite, LiteRtRuntime(), batch)
    OnnxExporter()(shared, tmp_path / "shared.onnx")
    DeepCompressionExporter(graph=True)(shared, tmp_path / "shared.dc")
    write_onnx(tmp_path / "shared.dc", tmp_path / "decoded.onnx")
    assert (tmp_path / "decoded.onnx").read_bytes() == (tmp_path / "shared.onnx").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "shared.dc").read_bytes()


def test_the_specification_builds_the_empty_net_anew(tmp_path: Path) -> None:
    path = foreign("residual", tmp_path)
    candidate = open_model(str(path))
    assert candidate.spec.name == "residual_net"
    again = rebuild(candidate.spec, ())
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: a.shape for n, a in candidate.network.state().items()
    }
    assert all(not t.any() for t in again.state_dict().values())
    moved = tmp_path / "elsewhere" / path.name
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    assert open_model(str(moved)).digest() == candidate.digest()
    with pytest.raises(SpecError, match="not open; open that very file"):
        imported("other", "0" * 64)


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    found = opened(str(foreign("residual", tmp_path)))
    assert found.assumed_preprocess
    assert found.assumed_classes
    assert found.candidate.spec.classes == tuple(map(str, range(10)))
    assert found.candidate.spec.preprocess.channel_order == "GREY"
    own = Preprocess(channel_order="GREY", scale=1 / 16)
    names = tuple("abcdefghij")
    given = opened(str(foreign("residual", tmp_path)), preprocess=own, classes=names)
    assert not given.assumed_preprocess
    assert not given.assumed_classes
    assert (given.candidate.spec.preprocess, given.candidate.spec.classes) == (own, names)
    with pytest.raises(ModelError, match="10 numbers, but 3 classes"):
        open_model(str(foreign("residual", tmp_path)), classes=("a", "b", "c"))


def test_rgb_pictures_get_the_preprocessing_of_imagenet(tmp_path: Path) -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    path = legacy(layer, (1, 3, 112, 112), tmp_path / "net.onnx")
    preprocess = open_model(str(path)).spec.preprocess
    assert (preprocess.resize, preprocess.crop) == (128, 112)
    assert preprocess.mean == IMAGENET_PREPROCESS.mean
    wide = legacy(layer, (1, 3, 64, 96), tmp_path / "wide.onnx")
    assert open_model(str(wide)).spec.preprocess.resize == (64, 96)
    four = legacy(torch.nn.Conv2d(4, 4, 3), (1, 4, 32, 32), tmp_path / "four.onnx")
    with pytest.raises(ModelError, match="four takes 4 channels; pictures have 1 or 3"):
        open_model(str(four))


def test_our_own_file_says_its_preprocessing_and_classes(tmp_path: Path) -> None:
    spec = digits_residual_spec()
    candidate = Candidate.load(spec, lively(spec.build()))
    OnnxExporter()(candidate, tmp_path / "own.onnx")
    found = opened(str(tmp_path / "own.onnx"))
    assert not found.assumed_preprocess
    assert not found.assumed_classes
    assert found.candidate.spec.preprocess == spec.preprocess
    batch = pictures(spec.input_shape)
    np.testing.assert_allclose(
        found.candidate.predict(batch), candidate.predict(batch), rtol=1e-4, atol=1e-5
    )


def small_squeezenet() -> torch.nn.Module:
    return lively(squeezenet1_1_spec(small=True).build())


def not_a_net() -> int:
    return 3


class TwoAnswers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_a_function_and_a_checkpoint(tmp_path: Path) -> None:
    crop = Preprocess(crop=32)
    module = small_squeezenet()
    changed = {n: t.clone() * 0.5 for n, t in module.state_dict().items()}
    save_file(changed, str(tmp_path / "w.safetensors"))
    own = open_model("tests.compress.importing.test_opening:small_squeezenet", preprocess=crop)
    assert own.spec.input_shape == (1, 3, 32, 32)
    own.check()
    half = open_model(
        "tests.compress.importing.test_opening:small_squeezenet",
        weights=tmp_path / "w.safetensors",
        preprocess=crop,
    )
    name = "features.0.weight"
    np.testing.assert_array_equal(
        half.network.parameters()[name], own.network.parameters()[name] * np.float32(0.5)
    )


def test_a_function_that_gives_a_specification(tmp_path: Path) -> None:
    spec = digits_residual_spec()
    save_file(lively(spec.build()).state_dict(), str(tmp_path / "w.safetensors"))
    model = "tests.nets:digits_residual_spec"
    assert open_model(model, weights=tmp_path / "w.safetensors").spec == spec
    with pytest.raises(ModelError, match="give a checkpoint"):
        open_model(model)
    with pytest.raises(CheckpointError, match="give the weights of this very net"):
        open_model("tests.nets:digits_branch_spec", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("net.pth", "give a path ending in .onnx or .pt2, or module:function"),
        ("no_such_module:net", "is not found from"),
        ("tests.nets:no_such_function", "is not found from"),
        ("tests.foreign:nodes_file", "fails when it is called without arguments"),
        ("tests.compress.importing.test_opening:not_a_net", "gives int"),
        ("tests.nets:digits_plain", "let it give a ModelSpec"),
        ("tests.compress.importing.test_opening:TwoAnswers", "answers with a tuple"),
    ],
)
def test_what_is_no_model(model: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(model)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["def (", "raise RuntimeError('two\\nlines')", "unknown"])
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "broken_net.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match="cannot be imported") as caught:
        open_model("broken_net:build")
    assert "\n" not in str(caught.value)


def test_weights_beside_a_file_that_has_its_own(tmp_path: Path) -> None:
    path = foreign("residual", tmp_path)
    with pytest.raises(ModelError, match="has its own weights"):
        open_model(str(path), weights=tmp_path / "w.pt")
