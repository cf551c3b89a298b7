""".pt2 programs: imported by their ATen operators, and read only where they are plain data."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.errors import ModelError
from compress.importing.opening import open_model
from compress.importing.program_net import read_program
from compress.models.mobilenet_v3 import mobilenet_v3_small_spec
from compress.models.shufflenet_v2 import shufflenet_v2_spec
from targets.imported import differences
from tests.foreign import lively, pictures
from tests.nets import digits_residual, digits_residual_spec

SHAPE = digits_residual_spec().input_shape


def saved(module: nn.Module, shape: tuple[int, ...], path: Path, *, free: bool) -> Path:
    sizes = ({0: torch.export.Dim("batch")},) if free else None
    example = (torch.zeros(2 if free else 1, *shape[1:]),)
    torch.export.save(torch.export.export(module, example, dynamic_shapes=sizes), path)
    return path


@pytest.mark.parametrize(
    ("spec", "free"),
    [
        (digits_residual_spec(), False),
        (mobilenet_v3_small_spec(width=0.5, small=True), False),
        (shufflenet_v2_spec(width=0.5, small=True), True),
    ],
    ids=lambda value: "" if isinstance(value, bool) else value.name,
)
def test_a_program_is_the_net_it_was_made_of(spec, free: bool, tmp_path: Path) -> None:
    module = lively(spec.build())
    path = saved(module, spec.input_shape, tmp_path / "net.pt2", free=free)
    net, entry, _ = read_program(path)
    assert entry.shape == spec.input_shape
    batch = torch.from_numpy(pictures(spec.input_shape))
    with torch.no_grad():
        expected, given = module(batch), net(batch)
    assert float((expected - given).abs().max() / expected.abs().max()) < 1e-5
    assert set(net.state_dict()) == set(module.state_dict())


def test_opening_a_program(tmp_path: Path) -> None:
    path = saved(lively(digits_residual()), SHAPE, tmp_path / "net.pt2", free=False)
    candidate = open_model(str(path))
    candidate.check()
    assert candidate.spec.name == "net"
    assert differences(candidate, path, pictures(SHAPE)) < 1e-5


class InPlace(nn.Module):
    """What is read after a change in place is the changed tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = nn.functional.relu(y, inplace=True)
        return (y + 2 * z).mean((2, 3))


def test_operators_in_place(tmp_path: Path) -> None:
    module = lively(InPlace())
    path = saved(module, SHAPE, tmp_path / "net.pt2", free=True)
    assert differences(open_model(str(path)), path, pictures(SHAPE)) < 1e-6


def test_training_mode(tmp_path: Path) -> None:
    path = saved(lively(digits_residual()).train(), SHAPE, tmp_path / "net.pt2", free=True)
    with pytest.raises(ModelError, match=r"training mode; export model\.eval"):
        open_model(str(path))


def rewritten(path: Path, part: str, change: Callable[[bytes], bytes]) -> Path:
    """The archive with one part changed, or added where it is not there."""
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith(part) else data)
        if not any(name.endswith(part) for name in old.namelist()):
            new.writestr(part, change(b""))
    return path


def edited(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        raw = json.loads(data)
        change(raw)
        return json.dumps(raw).encode()

    return apply


def call_the_system(raw: dict) -> None:
    raw["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def evaluate_a_size(raw: dict) -> None:
    raw["range_constraints"] = {"s0": {"expr_str": "__import__('os').getcwd()"}}


def pickled(raw: dict) -> None:
    next(iter(raw["config"].values()))["use_pickle"] = True


def opaque(raw: dict) -> None:
    next(iter(raw["config"].values()))["path_name"] = "opaque_obj_0"


class Evil:
    def __reduce__(self):
        return print, ("run",)


def evil_samples(_: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(),), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("models/model.json", edited(call_the_system), "target 'torch.os.system'"),
        ("models/model.json", edited(evaluate_a_size), "expr_str"),
        ("model_weights_config.json", edited(pickled), "use_pickle"),
        ("model_weights_config.json", edited(opaque), "path_name"),
        ("sample_inputs/model.pt", evil_samples, "could run code"),
        ("net/data/aotinductor/model/x.so", lambda _: b"\x7fELF", "'net/data/aotinductor"),
        ("net/data/weights/model.pt", lambda _: b"pickle", "'net/data/weights/model.pt'"),
    ],
    ids=["target", "size", "pickle", "opaque", "samples", "compiled", "old weights"],
)
def test_a_program_that_could_run_code_is_refused(
    part: str, change: Callable[[bytes], bytes], words: str, tmp_path: Path, capsys
) -> None:
    path = saved(lively(digits_residual()), SHAPE, tmp_path / "net.pt2", free=False)
    with pytest.raises(ModelError) as caught:
        open_model(str(rewritten(path, part, change)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "run" not in capsys.readouterr().out


def test_not_there_truncated_and_no_program(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with pytest.raises(ModelError, match="cannot be read"):
        open_model(str(path))
    saved(lively(digits_residual()), SHAPE, path, free=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        open_model(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
    with pytest.raises(ModelError, match=r"no \.pt2 program"):
        open_model(str(path))
