"""Eager torch, the baseline of containers: on the processor for real, by CUDA with a stand-in."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import targets
from compress.candidate import Candidate
from compress.errors import ContainerError, DeviceError
from compress.models.lenet import lenet300_spec
from targets.agreement import outputs_against
from targets.artifact import Artifact
from targets.asking import ask_runner
from targets.bench import benchmark, jobs_for
from targets.devices.local import LocalDevice
from targets.formats.deep_compression import DeepCompressionExporter
from targets.measurement import Plan, Target
from targets.onboard import torch_eager
from targets.onboard.engine import Wanted
from tests.reports import write_onnx
from tests.scripted_device import ANSWER, ScriptedDevice

ONCE = Plan(runs=5, rounds=1, warmup_s=0.05, max_s=0.2)
ROOT = str(Path(targets.__path__[0]).parent)
EAGER = Target(LocalDevice(), engine="torch")


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Artifact]:
    candidate = Candidate.untrained(lenet300_spec(), 0)
    folder = tmp_path_factory.mktemp("dc")
    return candidate, DeepCompressionExporter()(candidate, folder / "net.dc")


def test_its_outputs_are_the_candidates(
    container: tuple[Candidate, Artifact], tmp_path: Path
) -> None:
    candidate, artifact = container
    inputs = (
        np.random.default_rng(0).random((5, *candidate.spec.input_shape[1:])).astype(np.float32)
    )
    np.save(tmp_path / "x.npy", inputs)
    answer = ask_runner(artifact.path, EAGER, {"answers": str(tmp_path / "x.npy")}, 100)
    found = np.load(io.BytesIO(base64.b64decode(answer["outputs"])))
    wanted = np.concatenate([candidate.network.predict(inputs[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(found, wanted)
    assert answer["runtime"] == "torch"


def test_a_container_is_compared_with_eager_torch_on_the_processor(
    container: tuple[Candidate, Artifact],
) -> None:
    """No stock runtime reads one, so that none can be what it is held against."""
    shape = container[0].spec.input_shape[1:]
    pictures = np.random.default_rng(1).random((3, *shape)).astype(np.float32)
    found = outputs_against(container[1].path, EAGER, pictures)
    assert (found.largest, found.top1, found.pictures) == (0.0, 1.0, 3)


def test_it_is_timed_like_any_other(container: tuple[Candidate, Artifact]) -> None:
    (found,) = benchmark([container[1]], [EAGER], ONCE)
    assert found.timed
    assert found.runs == 5
    assert found.median_ms > 0
    assert (found.runtime, found.provider) == ("torch", "eager, CPU")
    assert found.resident_ms is None
    assert found.accelerator is None


def test_containers_are_left_out_for_stock_runtimes(
    container: tuple[Candidate, Artifact], tmp_path: Path
) -> None:
    net = write_onnx(tmp_path / "net.onnx")
    jobs = jobs_for([container[1], net], [Target(LocalDevice()), EAGER])
    ran = {(job.path.suffix, job.target.engine) for job in jobs}
    assert ran == {(".dc", "torch"), (".onnx", "cpu"), (".onnx", "torch")}
    with pytest.raises(DeviceError, match=r"no engine 'torch' runs \.onnx files"):
        benchmark([net], [EAGER], ONCE)


def test_it_runs_on_this_machine_only(container: tuple[Candidate, Artifact]) -> None:
    board = Target(ScriptedDevice(ANSWER), engine="torch")
    with pytest.raises(DeviceError, match=r"needs edgepress itself .*; write local\+torch"):
        benchmark([container[1]], [board], ONCE)
    with pytest.raises(ValueError, match="needs edgepress itself"):
        torch_eager.engine(Wanted("torch"))


def test_our_packages_are_named_to_no_other_engine(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    class Listening(ScriptedDevice):
        def run(self, argv: Any, timeout_s: float) -> Any:
            sent.append(json.loads(argv[2]))
            return super().run(argv, timeout_s)

    benchmark([write_onnx(tmp_path / "net.onnx")], [Target(Listening(ANSWER))], ONCE)
    assert [(r["edgepress_path"], r["software_gpu"]) for r in sent] == [(None, False)]


def test_a_damaged_container_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.dc"
    path.write_bytes(b"not a container")
    engine = torch_eager.engine(Wanted("torch", edgepress_path=ROOT))
    with pytest.raises(ContainerError) as caught:
        engine.load(str(path), torch.get_num_threads())
    assert "\n" not in str(caught.value)


def test_cuda_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(RuntimeError, match="sees no CUDA device here"):
        torch_eager.engine(Wanted("torch-cuda", edgepress_path=ROOT))


class FakeCuda:
    """torch with a GPU that is the processor: what is moved to it is counted, and each wait."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.moved, self.waits, self._fails = 0, 0, fails
        self.__version__ = "fake"
        self.cuda = SimpleNamespace(is_available=lambda: True, synchronize=self._wait)
        self.backends = SimpleNamespace(cudnn=SimpleNamespace(allow_tf32=True))
        self.inference_mode = torch.inference_mode
        self.set_num_threads = lambda _: None

    def _wait(self) -> None:
        self.waits += 1

    def from_numpy(self, values: Any) -> Any:
        return SimpleNamespace(to=lambda device: self._to(torch.from_numpy(values), device))

    def _to(self, value: Any, device: str) -> Any:
        assert device == "cuda"
        if self._fails is not None:
            raise self._fails
        self.moved += 1
        return value


def on_fake_cuda(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "torch", fake)  # type: ignore[arg-type]
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    module.to = lambda device: fake._to(module, device)  # type: ignore[method-assign]
    network = SimpleNamespace(module=lambda: module)
    spec = SimpleNamespace(input_shape=(1, 1, 8, 8))
    loader = SimpleNamespace(load=lambda _: SimpleNamespace(network=network, spec=spec))
    monkeypatch.setitem(sys.modules, "targets.formats.deep_compression", loader)  # type: ignore[arg-type]
    engine = torch_eager.engine(Wanted("torch-cuda", edgepress_path=ROOT))
    session = engine.load("net.dc", 1)
    return engine.feed(session, np.random.default_rng(0))


def test_cuda_waits_and_tells_copies_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda()
    fed = on_fake_cuda(fake, monkeypatch)
    before = fake.moved
    fed.call()
    assert (fake.moved - before, fake.waits) == (1, 1)
    assert fed.resident is not None
    fed.resident()
    assert (fake.moved - before, fake.waits) == (1, 2)
    assert set(fed.more()["accelerator"]) >= {"adapter", "driver"}
    assert not fake.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    "error",
    [AssertionError("Torch not compiled with CUDA enabled"), RuntimeError("no driver\nmore")],
    ids=["no CUDA", "no driver"],
)
def test_a_net_that_cannot_be_moved_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(RuntimeError, match="cannot move the net to cuda: ") as caught:
        on_fake_cuda(FakeCuda(error), monkeypatch)
    assert "\n" not in str(caught.value)
