"""Candidates on disk: equal bytes, and one line for each way in which a file can be wrong."""

from __future__ import annotations

import collections
import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from compress.candidate import ActivationQuant, Candidate, Skipped, Step
from compress.checkpoint import load_candidate, read_weights, save_candidate, save_half
from compress.edit import Factorized
from compress.errors import CheckpointError, EdgepressError, OutputError, SpecError
from compress.graph import TensorId
from compress.models.lenet import lenet300_spec
from compress.network import TorchNetwork
from tests.candidates import fresh, lenet, mixed
from tests.nets import digits_plain, digits_plain_spec

STEP = Step(
    stage="Prune",
    settings="Prune(0.5)",
    seconds=1.25,
    touched=("fc1",),
    skipped=(Skipped("fc3", "why not"),),
    metrics={"top1": 0.5},
    parameters=10,
    nonzeros=5,
    digest="d",
    checkpoint="00.safetensors",
)


def full() -> Candidate:
    """A candidate with everything that one can have."""
    candidate = mixed(lenet())
    grids = {
        TensorId("", "input"): ActivationQuant(0.0123, 7),
        TensorId("relu1", "relu"): ActivationQuant(0.5, 0, 8, "percentile 99.9"),
        TensorId("relu2", "relu"): ActivationQuant(0.5, 0, 8, "percentile 99.9"),
    }
    tie = frozenset({TensorId("relu1", "relu"), TensorId("relu2", "relu")})
    return dataclasses.replace(
        candidate, activations=grids, ties=(tie,), float_nodes=("fc3",), history=(STEP,)
    )


def test_everything_comes_back_and_is_written_to_equal_bytes(tmp_path: Path) -> None:
    candidate = full()
    candidate.check()
    save_candidate(candidate, tmp_path / "a.safetensors")
    back = load_candidate(tmp_path / "a.safetensors")
    assert back.digest() == candidate.digest()
    assert back.history == (STEP,)
    assert back.activations == candidate.activations
    assert back.ties == candidate.ties
    assert back.float_nodes == ("fc3",)
    save_candidate(back, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_structural_edits_come_back(tmp_path: Path) -> None:
    spec = lenet300_spec()
    edits = (Factorized("fc1", 5),)
    module = spec.build()
    edits[0].apply(module)
    candidate = Candidate(spec, TorchNetwork(module, spec.input_shape), edits=edits)
    save_candidate(candidate, tmp_path / "c.safetensors")
    back = load_candidate(tmp_path / "c.safetensors")
    assert back.edits == edits
    assert back.digest() == candidate.digest()


def test_a_net_of_the_users_own_needs_its_specification(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_candidate(fresh(), path)
    with pytest.raises(SpecError, match=r"tests\.nets:digits_plain.*spec="):
        load_candidate(path)
    assert load_candidate(path, digits_plain_spec()).digest() == fresh().digest()


def test_a_write_over_a_folder_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine").write_text("x")
    with pytest.raises(OutputError, match="c cannot be written: Is a directory"):
        save_candidate(fresh(), tmp_path / "c")
    assert [p.name for p in tmp_path.rglob("*")] == ["c", "mine"]


# --- weights ---------------------------------------------------------------------------------


def load_weights(path: Path) -> Candidate:
    return Candidate.load(digits_plain_spec(), path)


def test_weights_from_either_kind_of_file(tmp_path: Path) -> None:
    net = digits_plain()
    expected = Candidate.load(digits_plain_spec(), net).digest()
    torch.save(net.state_dict(), tmp_path / "plain.pt")
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, tmp_path / "wrapped.pth")
    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    save_file(arrays, tmp_path / "plain.safetensors")
    for name in ("plain.pt", "wrapped.pth", "plain.safetensors"):
        assert load_weights(tmp_path / name).digest() == expected


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_precision_is_read_as_float32(tmp_path: Path, kind: torch.dtype, suffix: str) -> None:
    from safetensors.torch import save_file as save_torch

    state = {name: tensor.to(kind) for name, tensor in digits_plain().state_dict().items()}
    path = tmp_path / f"half{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_torch(state, path)
    found = load_weights(path).network.parameters()
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.float().numpy())


def arrays(**changed: np.ndarray[Any, Any] | None) -> dict[str, np.ndarray[Any, Any]]:
    state = {n.replace(".", "_"): (n, t.numpy()) for n, t in digits_plain().state_dict().items()}
    for key, value in changed.items():
        name = state[key][0] if key in state else key
        state[key] = (name, value)  # type: ignore[assignment]
    return {name: value for name, value in state.values() if value is not None}


WRONG_TENSORS = {
    "missing tensor": (
        arrays(fc1_bias=None),
        r"lacks tensor 'fc1.bias', shape \(40,\); give the weights of this very net",
    ),
    "extra tensor": (
        arrays(fc0_bias=np.zeros(2, np.float32)),
        "'fc0_bias', which the net does not have; give the",
    ),
    "wrong shape, the first of two": (
        arrays(fc2_bias=np.zeros(9, np.float32), fc1_weight=np.zeros((40, 65), np.float32)),
        r"'fc1.weight' has shape \(40, 65\); the net needs \(40, 64\): give the",
    ),
    "NaN": (arrays(fc1_bias=np.full(40, np.nan, np.float32)), "'fc1.bias'.*not finite"),
    "infinity": (arrays(fc2_bias=np.full(10, np.inf, np.float32)), "'fc2.bias'.*not finite"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_the_first_tensor_that_differs_is_named(tmp_path: Path, case: str, suffix: str) -> None:
    state, message = WRONG_TENSORS[case]
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({name: torch.from_numpy(a) for name, a in state.items()}, path)
    else:
        save_file(state, path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


class Bomb:
    """A pickle that writes a file where it is loaded without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "executed")


def cut_short(path: Path) -> None:
    saved(path, digits_plain().state_dict())
    path.write_bytes(path.read_bytes()[:-200])


def pickled(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value))


def saved(path: Path, value: object) -> None:
    torch.save(value, path)


HOSTILE: dict[str, Callable[[Path, Path], object]] = {
    "a pickle that runs code": lambda path, marker: pickled(path, Bomb(marker)),
    "a torch file that runs code": lambda path, marker: saved(path, {"fc1.weight": Bomb(marker)}),
    "a whole pickled net": lambda path, _: saved(path, digits_plain()),
    "an optimizer's state": lambda path, _: saved(path, {"state": {}, "lr": 0.1}),
    "a list of tensors": lambda path, _: saved(path, [torch.zeros(2)]),
    "a single tensor": lambda path, _: saved(path, torch.zeros(2)),
    "a counter": lambda path, _: saved(path, collections.Counter("ab")),
    "a sparse tensor": lambda path, _: saved(path, {"fc1.bias": torch.zeros(40).to_sparse()}),
    "an empty file": lambda path, _: path.write_bytes(b""),
    "text": lambda path, _: path.write_text("weights"),
    "a torch file cut short": lambda path, _: cut_short(path),
    "nothing at all": lambda _, __: None,
    "a folder": lambda path, _: path.mkdir(),
}


@pytest.mark.filterwarnings("error")  # a refusal is one line, without torch's own before it
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ""])
@pytest.mark.parametrize("case", HOSTILE)
def test_other_files_are_refused_and_never_run(tmp_path: Path, case: str, suffix: str) -> None:
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "marker"
    HOSTILE[case](path, marker)
    with pytest.raises(CheckpointError) as error:
        load_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [40, -200, -1])
def test_a_torch_file_cut_short_is_called_damaged(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "weights.pt"
    saved(path, digits_plain().state_dict())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="damaged or cut off; copy or download it again"):
        load_weights(path)


def test_a_torch_file_with_a_changed_byte_of_its_structure_is_called_damaged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pt"
    saved(path, digits_plain().state_dict())
    data = bytearray(path.read_bytes())
    data[data.index(b"fc1.weight") - 8] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        load_weights(path)


@pytest.mark.parametrize("case", ["a torch file that runs code", "a pickle that runs code"])
def test_a_whole_file_that_is_not_plain_is_not_called_damaged(tmp_path: Path, case: str) -> None:
    path = tmp_path / "weights.pt"
    HOSTILE[case](path, tmp_path / "marker")
    with pytest.raises(CheckpointError, match="not a file of plain tensors"):
        load_weights(path)


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Bomb(marker)))  # noqa: S301
    assert marker.read_text() == "executed"


def test_a_candidate_is_not_taken_for_weights_nor_weights_for_a_candidate(tmp_path: Path) -> None:
    save_candidate(fresh(), tmp_path / "candidate.safetensors")
    with pytest.raises(CheckpointError, match="holds a candidate"):
        read_weights(tmp_path / "candidate.safetensors")
    save_file(arrays(), tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_candidate(tmp_path / "plain.safetensors")


# --- damaged candidates ----------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change a candidate's file: `change(description, arrays)` edits both in place."""
    with safe_open(path, framework="np") as opened:
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        description = json.loads(opened.metadata()["edgepress"])
    change(description, found)
    save_file(found, path, metadata={"edgepress": json.dumps(description)})


def setting(key: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda description, _: description.__setitem__(key, value)


def array(name: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda _, found: found.__setitem__(name, np.asarray(value))


def grid(**changed: object) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda description, _: description["activations"]["/input#0"].update(changed)


CODES = "encoding/fc2.weight/indices"
DAMAGE: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "another version": setting("version", 99),
    "no version": lambda d, _: d.pop("version"),
    "no edits": lambda d, _: d.pop("edits"),
    "edits a word": setting("edits", "abc"),
    "an unknown edit": setting("edits", [{"kind": "Exec"}]),
    "an edit that does not fit": setting(
        "edits", [{"kind": "Factorized", "layer": "relu1", "rank": 1}]
    ),
    "specification a list": setting("spec", []),
    "a foreign builder": lambda d, _: d["spec"].update(builder="os:system"),
    "a builder that is not there": lambda d, _: d["spec"].update(
        builder="compress.models.lenet:nope"
    ),
    "wrong arguments": lambda d, _: d["spec"].update(kwargs={"x": 1}),
    "no inputs": lambda d, _: d["spec"].update(inputs=[]),
    "history a number": setting("history", 3),
    "a step without seconds": setting("history", [{"stage": "x"}]),
    "grids a list": setting("activations", [1]),
    "a grid on no tensor's name": setting("activations", {"relu": {"scale": 1.0}}),
    "a grid on a tensor of another net": setting(
        "activations", {"x/relu#0": {"scale": 1.0, "zero_point": 0}}
    ),
    "a grid of 2**40 bits": grid(bits=1 << 40),
    "a scale of 0": grid(scale=0),
    "a scale of infinity": grid(scale=float("inf")),
    "a scale in words": grid(scale="1"),
    "an unknown field of a grid": grid(colour="red"),
    "a tensor missing": lambda _, a: a.pop("state/fc1.weight"),
    "a tensor too many": array("state/fc9.weight", np.zeros(3, np.float32)),
    "a tensor of another shape": array("state/fc1.weight", np.zeros((300, 783), np.float32)),
    "a tensor of another type": array("state/fc1.bias", np.full(300, np.nan)),
    "an encoding of nothing": array("encoding/fc9.weight/mask", np.ones((2, 2), np.bool_)),
    "a mask of another shape": array("encoding/fc1.weight/mask", np.ones((2, 2), np.bool_)),
    "a mask that hides weights": array("encoding/fc1.weight/mask", np.zeros((300, 784), np.bool_)),
    "codes past the codebook": array(CODES, np.full((100, 300), 200, np.uint8)),
    "codes in float": array(CODES, np.zeros((100, 300), np.float32)),
    "codes below zero": array(CODES, np.full((100, 300), -1, np.int8)),
    "other codes": array(CODES, np.zeros((100, 300), np.uint8)),
    "no codebook": lambda _, a: a.pop("encoding/fc2.weight/codebook"),
    "no codes": lambda _, a: a.pop(CODES),
    "axis out of range": array("encoding/fc3.weight/axis", np.int8(2)),
    "axis a vector": array("encoding/fc3.weight/axis", np.zeros(2, np.int8)),
    "scale of another length": array("encoding/fc3.weight/scale", np.ones(3, np.float32)),
    "scale of NaN": array("encoding/fc3.weight/scale", np.full(10, np.nan, np.float32)),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("full") / "c.safetensors"
    save_candidate(full(), path)
    return path.read_bytes()


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_candidate_is_refused_in_one_line(
    tmp_path: Path, written: bytes, case: str
) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(written)
    rewritten(path, DAMAGE[case])
    before = path.read_bytes()
    with pytest.raises(EdgepressError) as error:
        load_candidate(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_the_damage_above_is_in_the_change_not_in_the_rewriting(
    tmp_path: Path, written: bytes
) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(written)
    rewritten(path, lambda *_: None)
    assert load_candidate(path).digest() == full().digest()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[" * 100_000])
def test_damaged_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"state/x": np.zeros(1, np.float32)}, path, metadata={"edgepress": text})
    with pytest.raises(CheckpointError, match="damaged") as error:
        load_candidate(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_truncated_files_are_refused(tmp_path: Path, written: bytes, keep: int) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(written[:keep])
    with pytest.raises(CheckpointError, match="not a readable safetensors file") as error:
        load_candidate(path)
    assert "\n" not in str(error.value)


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + written[8:])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_candidate(path)


def test_a_missing_candidate_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_candidate(tmp_path / "c.safetensors")


def test_a_net_with_buffers_of_every_kind_comes_back(tmp_path: Path) -> None:
    from tests.nets import digits_residual_spec

    candidate = fresh(digits_residual_spec)
    path = tmp_path / "c.safetensors"
    save_candidate(candidate, path)
    back = load_candidate(path, digits_residual_spec())
    assert back.network.state()["bn1.num_batches_tracked"].dtype == np.int64
    assert back.digest() == candidate.digest()
    assert isinstance(back.network.module().get_submodule("bn1"), nn.BatchNorm2d)


def test_weights_in_half_precision_come_back_rounded(tmp_path: Path) -> None:
    candidate = fresh(digits_plain_spec)
    path = tmp_path / "half.safetensors"
    save_half(candidate, path)
    again = Candidate.load(candidate.spec, path)
    state, rounded = candidate.network.state(), again.network.state()
    floats = [n for n, a in state.items() if a.dtype.kind == "f"]
    assert any(not np.array_equal(state[n], rounded[n]) for n in floats)
    for name in floats:
        assert np.array_equal(state[name].astype(np.float16), rounded[name]), name
    values = sum(state[n].size for n in floats)
    assert 2 * values < path.stat().st_size < 2 * values + 100 * (len(floats) + 2)
    written = path.read_bytes()
    save_half(candidate, path)
    assert path.read_bytes() == written


def test_half_precision_is_refused_what_it_cannot_hold(tmp_path: Path) -> None:
    candidate = fresh(digits_plain_spec)
    name, weight = next(iter(candidate.network.parameters().items()))
    huge = weight.copy()
    huge.flat[0] = 7e4
    with pytest.raises(CheckpointError, match=f"{name!r} holds 70000, beyond half precision"):
        save_half(candidate.with_values({name: huge}, {}), tmp_path / "half.safetensors")
    assert not list(tmp_path.iterdir())
