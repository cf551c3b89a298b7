"""Candidates on disk: one safetensors file, no pickle, written whole or not at all.

Layout: tensors `state/<name>`, `encoding/<name>/<part>`; one metadata entry `edgepress` of
canonical JSON. One entry, because safetensors writes several in arbitrary order, and equal
candidates must give equal bytes.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from compress.atomic import write_bytes
from compress.candidate import ActivationQuant, Candidate, Skipped, Step
from compress.edit import edit_from_dict, edit_to_dict, rebuild
from compress.encoding import Encoded, Encoding, Masked, encoding_arrays
from compress.errors import CheckpointError, EncodingError, ExportError
from compress.graph import TensorId
from compress.network import TorchNetwork, load_state
from compress.spec import ModelSpec

VERSION = 1
_KEY = "edgepress"
# What reading well-formed JSON of the wrong content raises.
_DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)


def save_candidate(candidate: Candidate, path: Path) -> None:
    """Write `candidate` to `path` (.safetensors): equal candidates, equal bytes."""
    tensors = {f"state/{n}": a for n, a in candidate.network.state().items()}
    for name, encoding in candidate.encodings.items():
        for part, array in encoding_arrays(encoding).items():
            tensors[f"encoding/{name}/{part}"] = array
    # Not ascontiguousarray, which gives scalars (num_batches_tracked) an axis.
    contiguous = {n: np.array(a, order="C") for n, a in sorted(tensors.items())}
    write_bytes(path, save(contiguous, metadata={_KEY: json.dumps(describe(candidate))}))


def describe(candidate: Candidate) -> dict[str, Any]:
    """All of a candidate but its arrays, as JSON-able data."""
    return {
        "version": VERSION,
        "spec": json.loads(candidate.spec.to_json()),
        "edits": [edit_to_dict(edit) for edit in candidate.edits],
        "activations": {str(t): asdict(q) for t, q in sorted(candidate.activations.items())},
        "ties": [sorted(map(str, tie)) for tie in candidate.ties],
        "float_nodes": list(candidate.float_nodes),
        "history": [asdict(step) for step in candidate.history],
    }


def save_half(candidate: Candidate, path: Path) -> None:
    """Write the plain weights in half precision, for Candidate.load: half the bytes of `state`.

    Batch norm's counters are left out. Raises CheckpointError for a value beyond half precision.
    """
    halves: dict[str, NDArray[np.generic]] = {}
    for name, array in candidate.network.state().items():
        if array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            halves[name] = np.array(array, np.float16, order="C")
        if not np.isfinite(halves[name]).all():
            raise CheckpointError(
                f"{path}: {name!r} holds {np.abs(array).max():g}, beyond half precision's 65504; "
                f"save the candidate with save_candidate"
            )
    write_bytes(path, save(halves))


def load_candidate(path: Path, spec: ModelSpec | None = None) -> Candidate:
    """Read `save_candidate`'s file. A net outside compress.models needs its `spec` handed in."""
    arrays, metadata = read_safetensors(path)
    if _KEY not in metadata:
        raise CheckpointError(f"{path} holds plain tensors, not a candidate; load it as weights")
    try:
        raw = json.loads(metadata[_KEY])
        if raw["version"] != VERSION:
            raise CheckpointError(
                f"{path} has version {raw['version']}; {VERSION} is readable: run the stage again"
            )
        return restore(raw, arrays, spec, str(path))
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged ({error!r}); run the stage again") from error
    except (EncodingError, ExportError) as error:  # our own, said without the file's name
        raise CheckpointError(f"{path} is damaged ({error}); run the stage again") from error


def restore(
    raw: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.generic]],
    spec: ModelSpec | None,
    source: str,
    *,
    own: bool = False,
) -> Candidate:
    """A candidate from `describe`'s data and the arrays, checked.

    own: the arrays are taken over, which no file may lie beneath: safetensors maps its own.
    """
    fitting = spec if spec is not None else ModelSpec.from_json(json.dumps(raw["spec"]))
    edits = tuple(edit_from_dict(edit) for edit in raw["edits"])
    model = rebuild(fitting, edits)
    prefix = "state/"
    state = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    load_state(model, state, source, own=own)
    candidate = Candidate(
        spec=fitting,
        network=TorchNetwork(model, fitting.input_shape, own=True),
        edits=edits,
        encodings=_encodings(arrays, source),
        activations={
            TensorId.parse(t): ActivationQuant(**q) for t, q in raw["activations"].items()
        },
        ties=tuple(frozenset(TensorId.parse(t) for t in tie) for tie in raw["ties"]),
        float_nodes=tuple(str(n) for n in raw["float_nodes"]),
        history=tuple(step_from_dict(step) for step in raw["history"]),
    )
    candidate.check()
    return candidate


def step_from_dict(raw: Mapping[str, Any]) -> Step:
    """The inverse of dataclasses.asdict for a Step."""
    fields = dict(raw)
    fields["touched"] = tuple(fields["touched"])
    fields["skipped"] = tuple(Skipped(**s) for s in fields["skipped"])
    return Step(**fields)


def read_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """Named arrays of a .safetensors or a torch file of plain tensors; others are refused."""
    if not path.is_file():
        raise CheckpointError(f"weights {path} do not exist; give a .safetensors or .pt file")
    if path.suffix == ".safetensors":
        arrays, metadata = read_safetensors(path)
        if _KEY in metadata:
            raise CheckpointError(f"{path} holds a candidate, not plain weights; resume from it")
        return arrays
    loaded = _torch_loaded(path)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in loaded.values()
    ):
        raise CheckpointError(f"{path} holds {type(loaded).__name__}; a state_dict is needed")
    return plain_arrays(cast("Mapping[str, torch.Tensor]", loaded), str(path))


def _torch_loaded(path: Path) -> Any:
    """What torch.save wrote, if it is plain data; CheckpointError that tells damage from code."""
    # torch warns about a pickle's protocol on its way to refusing it; the refusal says enough.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ... by kind of damage
            if _is_broken_zip(path):
                raise CheckpointError(
                    f"{path} is a torch file that is damaged or cut off; copy or download it again"
                ) from error
            raise CheckpointError(
                f"{path} is not a file of plain tensors; save the net's state_dict() "
                f"with torch.save or safetensors ({type(error).__name__})"
            ) from error


def _is_broken_zip(path: Path) -> bool:
    """Whether the file starts as torch's zip archives do, but is none or has damaged members."""
    with path.open("rb") as opened:
        if opened.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return True


def plain_arrays(state: Mapping[str, torch.Tensor], source: str) -> dict[str, NDArray[np.generic]]:
    """Named tensors as arrays, half precision as float32; CheckpointError for sparse ones."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, tensor in state.items():
        dense = tensor.detach().cpu()
        try:
            arrays[str(name)] = (dense.float() if dense.is_floating_point() else dense).numpy()
        except (TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{source}: tensor {name!r} ({dense.layout}, {dense.dtype}) is not a plain array"
            ) from error
    return arrays


def read_safetensors(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """All arrays (half precision as float32) and the metadata of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a .safetensors file")
    try:
        # By torch, because numpy does not know bfloat16.
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    return plain_arrays(tensors, str(path)), metadata


def _encodings(arrays: Mapping[str, NDArray[Any]], source: str) -> dict[str, Encoding]:
    parts: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        if key.startswith("encoding/"):
            name, _, part = key.removeprefix("encoding/").rpartition("/")
            parts.setdefault(name, {})[part] = array
    try:
        return {name: _encoding(p) for name, p in parts.items()}
    except (KeyError, IndexError, EncodingError) as error:
        raise CheckpointError(f"{source}: an encoding is damaged: {error}") from error


def _encoding(parts: Mapping[str, NDArray[Any]]) -> Encoding:
    if "mask" in parts:
        return Masked(parts["mask"].astype(np.bool_))
    axis = int(parts["axis"])
    return Encoded(parts["indices"], parts["codebook"], parts["scale"], None if axis < 0 else axis)
