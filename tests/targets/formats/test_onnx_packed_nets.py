"""Every net of compress/models, pruned and shared: the packed .onnx computes the plain one's bits.

Weights are those of recipes/weights where there are any, else random. Folded after sharing, so that
the codes carry a scale for each channel, some negative.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import recipes
from compress.candidate import Candidate
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.stage import run
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Task
from targets.formats.onnx import OnnxExporter
from targets.formats.onnx_pack import PROFILES
from targets.formats.onnx_packed import OnnxPackedExporter
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.digits import trained
from tests.every_net import builders, lively
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec
from tests.onnx_files import Spec, folded, optimized, outputs

NETS = sorted(builders())
# Every width of codes, in bits, whatever nets there are.
BITS = {name: 2 + position % 8 for position, name in enumerate(NETS)}
WEIGHTS = Path(recipes.__file__).parent / "weights"
TRAINED = {
    "squeezenet1_1": (squeezenet1_1_spec(small=True), WEIGHTS / "squeezenet-cifar10.safetensors"),
    "mobilenet_v2": (mobilenet_v2_spec(small=True), WEIGHTS / "mobilenet_v2-cifar10.safetensors"),
    "shufflenet_v2": (
        shufflenet_v2_spec(small=True),
        WEIGHTS / "shufflenet_v2-cifar10.safetensors",
    ),
}
# In the other profile too: each of its exports takes seconds.
BOTH = ("lenet5", "resnet20")
# Kernels that multiply in float.
FLOAT_LAYERS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul"}


def pictures(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> tuple[str, Candidate]:
    """Its name, and it. One a module: a net's tests follow each other, and it is written once."""
    name = str(request.param)
    start = Candidate.load(*TRAINED[name]) if name in TRAINED else lively(name)
    stages = (PruneMagnitude(0.6), ShareWeights(BITS[name], method="linear"), FoldBatchNorm())
    return name, run(start, stages, Task(evaluate=lambda _: {}, fingerprint="none"))


def integer(candidate: Candidate) -> Candidate:
    def calibration() -> Iterable[NDArray[np.float32]]:
        return [pictures(candidate.spec.input_shape)]

    task = Task(evaluate=lambda _: {}, fingerprint="none", calibration=calibration)
    return QuantizeInt8()(candidate, task).candidate


def test_the_walk_finds_every_family() -> None:
    assert {"lenet5", "alexnet", "vgg16", "squeezenet1_0", "mobilenet_v3_large"} <= set(NETS)
    assert set(BITS.values()) == set(range(2, 10))


def test_pruned_and_shared_gives_the_bits_of_the_plain_file(
    net: tuple[str, Candidate], tmp_path: Path
) -> None:
    name, candidate = net
    for profile in PROFILES if name in BOTH else ("compatible",):
        plain, small = both(candidate, profile, tmp_path)
        assert small.stat().st_size < 0.5 * plain.stat().st_size
        assert_same_bits(plain, small, candidate)


def test_int8_of_shared_weights_fuses_as_the_plain_file_and_gives_its_bits(
    net: tuple[str, Candidate], tmp_path: Path
) -> None:
    candidate = integer(net[1])
    plain, small = both(candidate, "compatible", tmp_path)
    assert small.stat().st_size < plain.stat().st_size
    assert_same_bits(plain, small, candidate)
    assert_fuses_alike(plain, small, tmp_path)


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec, digits_plain_spec])
def test_trained_nets_in_int8(spec: Spec, tmp_path: Path) -> None:
    """The packed file answers as the candidate does, by the kernels of the plain one."""
    task = trained(spec).task
    stages = (PruneMagnitude(0.3), ShareWeights(5), QuantizeInt8())
    candidate = run(folded(spec), stages, task)
    plain, small = both(candidate, "compatible", tmp_path)
    assert_fuses_alike(plain, small, tmp_path)
    assert task.test is not None
    scores = task.test(OnnxRuntime().load(small).predict)
    assert scores["top1"] == pytest.approx(task.test(candidate.predict)["top1"], abs=0.005)
    assert scores["top1"] > 0.9


def both(candidate: Candidate, profile: str, folder: Path) -> tuple[Path, Path]:
    """The candidate's plain and packed files."""
    plain, small = folder / "net.onnx", folder / "net.packed.onnx"
    OnnxExporter(opset=PROFILES[profile])(candidate, plain)
    OnnxPackedExporter(profile)(candidate, small)  # type: ignore[arg-type]
    return plain, small


def assert_same_bits(plain: Path, small: Path, candidate: Candidate) -> None:
    batch = pictures(candidate.spec.input_shape)
    for optimize in (True, False):
        expected = outputs(plain, batch, optimize)
        assert np.isfinite(expected).all()
        assert expected.any()
        assert outputs(small, batch, optimize).tobytes() == expected.tobytes()


def assert_fuses_alike(plain: Path, small: Path, folder: Path) -> None:
    """Once folded, both are the same integer operators."""
    for level in ("ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        after, before = (optimized(path, level, folder).node for path in (small, plain))
        kinds = sorted(node.op_type for node in after)
        assert kinds == sorted(node.op_type for node in before)
        assert {"QLinearConv", "QGemm", "QLinearMatMul"} & set(kinds)
        assert not FLOAT_LAYERS & set(kinds)
