"""The Deep Compression container: every weight at the price of its code (arXiv:1510.00149).

Pruned positions are gaps, codes and gaps are Huffman-coded, codebooks and scales are plain; the
rest is float32. `load` gives back the candidate bit for bit.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from compress.candidate import Candidate, encoding_arrays
from compress.checkpoint import describe, restore
from compress.edit import edit_from_dict, rebuild
from compress.encoding import Encoding
from compress.errors import ContainerError, EdgepressError
from compress.spec import ModelSpec, TensorSpec
from targets.artifact import Artifact, file_sha256, precision_of
from targets.formats.dc_envelope import Container, read_container, write_container
from targets.formats.dc_skeleton import skeleton
from targets.formats.onnx import OnnxExporter


@dataclass(frozen=True)
class DeepCompressionExporter:
    """Writes `.dc`. With `graph` it carries the .onnx's skeleton, so that torch is not needed."""

    format: ClassVar[str] = "dc"
    suffix: ClassVar[str] = ".dc"
    graph: bool = False

    def __call__(self, candidate: Candidate, path: Path) -> Artifact:
        """Write `candidate` to `path`; equal candidates give equal bytes."""
        state = candidate.network.state()
        tensors: dict[str, tuple[NDArray[Any], Encoding | None]] = {
            name: (array, candidate.encodings.get(name)) for name, array in state.items()
        }
        graph = _graph(candidate, path, state) if self.graph else None
        write_container(path, _about(candidate), tensors, graph)
        return Artifact(
            path=path,
            format=self.format,
            precision=precision_of(candidate),
            sha256=file_sha256(path),
            size_bytes=path.stat().st_size,
            inputs=candidate.spec.inputs,
            outputs=_outputs(candidate),
            candidate_digest=candidate.digest(),
        )


def load(path: Path, spec: ModelSpec | None = None) -> Candidate:
    """The candidate of a container: spec and edits rebuilt, every tensor checked.

    A net outside compress.models needs its `spec` handed in. Raises ContainerError, one line.
    """
    container = read_container(path)
    try:
        _check_shapes(container, spec)
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, array, encoding in container.decode():
            arrays[f"state/{name}"] = array
            for part, values in encoding_arrays(encoding).items() if encoding else ():
                arrays[f"encoding/{name}/{part}"] = values
        return restore(container.about, arrays, spec, str(path))
    except ContainerError:
        raise
    except EdgepressError as error:
        raise ContainerError(f"{path} cannot be loaded: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContainerError(f"{path} is damaged: {error!r}") from error


def _about(candidate: Candidate) -> dict[str, Any]:
    """`describe` with the history's settings only: times and scores would change the bytes."""
    about = describe(candidate)
    history = [
        {"stage": s.stage, "settings": s.settings, "seconds": 0.0} for s in candidate.history
    ]
    return {**about, "history": [{**h, "touched": [], "skipped": []} for h in history]}


def _check_shapes(container: Container, spec: ModelSpec | None) -> None:
    """Compare names and shapes with the net's before decoding; the net is built without memory."""
    own = spec or ModelSpec.from_json(json.dumps(container.about["spec"]))
    with torch.device("meta"):
        model = rebuild(own, tuple(edit_from_dict(edit) for edit in container.about["edits"]))
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for record in container.records:
        if needed.get(record.name) != record.shape:
            raise ContainerError(
                f"container has tensor {record.name!r} of shape {record.shape}; the net "
                f"{own.name!r} needs {needed.get(record.name, 'no such tensor')}"
            )


def _graph(candidate: Candidate, path: Path, state: dict[str, NDArray[np.generic]]) -> bytes:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / "graph.onnx"
        OnnxExporter()(candidate, written)
        return skeleton(written.read_bytes(), state)


def _outputs(candidate: Candidate) -> tuple[TensorSpec, ...]:
    graph = candidate.network.graph
    shapes = (graph.by_id[tensor].shape for tensor in graph.outputs)
    return tuple(TensorSpec("output", shape, "float32", "NC") for shape in shapes)
