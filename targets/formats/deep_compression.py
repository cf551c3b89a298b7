"""The Deep Compression container: every weight at the price of its code (arXiv:1510.00149).

Pruned positions are gaps, codes and gaps are Huffman-coded, codebooks and scales are plain; the
rest is float32. `load` gives back the candidate bit for bit: the file carries its digest.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.checkpoint import describe, restore
from compress.edit import edit_from_dict, rebuild
from compress.encoding import Encoding, encoding_arrays
from compress.errors import ContainerError, EdgepressError, ExportError
from compress.spec import ModelSpec, TensorSpec
from compress.stages.fold_batchnorm import unfolded
from targets.artifact import Artifact, artifact_of
from targets.formats.dc_envelope import (
    Container,
    amiss,
    read_container,
    write_container,
)
from targets.formats.dc_head import canonical
from targets.formats.dc_skeleton import skeleton
from targets.formats.onnx import OnnxExporter

# A net of this many folded or factorized layers does not exist; a hostile list does.
_MAX_EDITS = 4096
# What reading well-formed JSON of the wrong content raises.
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class DeepCompressionExporter:
    """Writes `.dc`, as small as it can be.

    graph: it carries the .onnx's skeleton, so that torch is not needed. quick: weights are coded
    to be decoded fast, which takes 2 to 5 percent more bytes (dc_codes.py).
    """

    format: ClassVar[str] = "dc"
    suffix: ClassVar[str] = ".dc"
    graph: bool = False
    quick: bool = False

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `candidate` to `path`; equal candidates give equal bytes, whatever their times.

        Raises ExportError or EncodingError for a candidate that `load` could not give back.
        """
        candidate.check()
        tensors: dict[str, tuple[NDArray[Any], Encoding | None]] = {
            name: (array, candidate.encodings.get(name))
            for name, array in candidate.network.state().items()
        }
        about = {**_about(candidate), "digest": candidate.digest()}
        graph = _graph(candidate, tensors) if self.graph else None
        write_container(path, about, tensors, graph, self.quick)
        return artifact_of(self, candidate, path, candidate.spec.inputs, _outputs(candidate))


@dataclass(frozen=True)
class QuickExporter(DeepCompressionExporter):
    """The container for an app that decodes it at every start: with its graph, and quick."""

    suffix: ClassVar[str] = ".quick.dc"
    graph: bool = True
    quick: bool = True


def load(path: Path, spec: ModelSpec | None = None) -> Candidate:
    """The candidate of a container: spec and edits rebuilt, every tensor checked.

    A net outside compress.models needs its `spec` handed in. Raises ContainerError, one line.
    """
    container = read_container(path)
    try:
        about = _checked_about(container)
        own = spec if spec is not None else ModelSpec.from_json(json.dumps(about["spec"]))
        _check_tensors(container, own)
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, array, encoding in container.decode():
            arrays[f"state/{name}"] = array
            for part, values in encoding_arrays(encoding).items() if encoding else ():
                arrays[f"encoding/{name}/{part}"] = values
        history = [
            {**step, "seconds": 0.0, "touched": [], "skipped": []} for step in about["history"]
        ]
        candidate = restore({**about, "history": history}, arrays, own, str(path), own=True)
        _check_same(candidate, about)
    except (EdgepressError, *_DAMAGE) as error:
        own_words = str(error) if isinstance(error, EdgepressError) else f"damaged ({error!r})"
        raise amiss(str(path), own_words) from error
    return candidate


def _about(candidate: Candidate) -> dict[str, Any]:
    """`describe` with the history's settings only: times and scores would change the bytes."""
    history = [{"stage": s.stage, "settings": s.settings} for s in candidate.history]
    return {**describe(candidate), "history": history}


def _checked_about(container: Container) -> Mapping[str, Any]:
    """The file's own description; only what must hold before anything is built is checked here."""
    about = container.about
    if not isinstance(about["edits"], list) or len(about["edits"]) > _MAX_EDITS:
        raise ContainerError(f"edits are no list of at most {_MAX_EDITS}; get the file again")
    history = about["history"]
    # The digest does not cover the history, so its types are checked here.
    steps = all(set(s) == {"stage", "settings"} and _texts(s.values()) for s in history)
    if not isinstance(history, list) or not steps:
        raise ContainerError("history is no list of stages and settings; get the file again")
    return about


def _texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _check_tensors(container: Container, spec: ModelSpec) -> None:
    """Compare names, shapes and types with the net's before decoding.

    The net is built without memory for it, so a hostile shape costs nothing.
    """
    with torch.device("meta"):
        edits = tuple(edit_from_dict(edit) for edit in container.about["edits"])
        state = rebuild(spec, edits).float().state_dict()
    needed = {name: _signature(tensor) for name, tensor in state.items()}
    found = {record.name: f"{record.dtype} {record.shape}" for record in container.records}
    for name in sorted({*needed, *found}):
        if needed.get(name) != found.get(name):
            raise ContainerError(
                f"tensor {name!r} is {found.get(name, 'missing')} in the file, but "
                f"{needed.get(name, 'no tensor')} in the net {spec.name!r}; give the file or the "
                f"specification that belongs to the other"
            )


def _signature(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _check_same(candidate: Candidate, about: Mapping[str, Any]) -> None:
    """The candidate is the one that was exported: described alike, and of the same digest.

    A wrong type that the reader let pass (a number for a name) differs here at the latest. A
    specification that was handed in stands for the file's, so the file's is compared.
    """
    stored = ModelSpec.from_json(json.dumps(about["spec"]), trusted=True)
    same = replace(candidate, spec=stored)
    digest = same.digest()
    if not digest.startswith(about["digest"]):
        raise ContainerError(
            f"digest is {digest[:16]}..., the file says {str(about['digest'])[:16]}...; "
            f"get the file again"
        )
    if canonical({**_about(same), "digest": about["digest"]}) != canonical(about):
        raise ContainerError("part 'about' is not what was exported; get the file again")


def _graph(
    candidate: Candidate, tensors: Mapping[str, tuple[NDArray[Any], Encoding | None]]
) -> bytes:
    """The skeleton of the .onnx that OnnxExporter writes: int8 where activations have grids."""
    norms = unfolded(candidate)
    if norms:
        raise ExportError(
            f"batch norm {norms[0]!r} is not folded, so the graph would hold the weights a "
            f"second time; put FoldBatchNorm first, or export with graph=False"
        )
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "graph.onnx"
        OnnxExporter()(candidate, written)
        return skeleton(written.read_bytes(), ((name, *pair) for name, pair in tensors.items()))


def _outputs(candidate: Candidate) -> tuple[TensorSpec, ...]:
    """By a picture's way through the net: tracing it takes seconds, and not every net allows it."""
    zeros = np.zeros((1, *candidate.network.input_shape[1:]), np.float32)
    shape = candidate.network.predict(zeros).shape
    return (TensorSpec("output", shape, "float32", "NC"),)
