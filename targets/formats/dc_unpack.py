"""A container as a file that other tools load: .onnx, packed .onnx, .safetensors or .tflite.

A container that carries its graph becomes either .onnx without torch, and none needs torch for its
tensors alone. An .onnx or .tflite is byte for byte the one that its exporter writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from compress.atomic import write_bytes
from compress.errors import ContainerError, one_line
from compress.extras import need, need_installed
from compress.spec import is_own
from targets.formats.dc_envelope import Container, amiss, read_container, read_state

if TYPE_CHECKING:
    import onnx

    from compress.candidate import Candidate

Profile = Literal["compatible", "modern"]


def unpack_onnx(container: Path, path: Path) -> None:
    """Write OnnxExporter's file: by numpy alone from the graph, by torch where there is none.

    Raises ContainerError for damage, and where a net outside compress.models would have to be
    built; MissingExtraError where torch is needed and missing.
    """
    opened = read_container(container)
    if opened.graph is not None:
        from targets.formats.dc_skeleton import write_onnx

        write_onnx(container, path)
        return
    candidate = _loaded(opened, _no_graph(opened))
    from targets.formats.onnx import OnnxExporter

    OnnxExporter()(candidate, path)


def unpack_packed(container: Path, path: Path, profile: Profile = "compatible") -> None:
    """Write OnnxPackedExporter(profile)'s file, without torch where the graph is of its opset.

    Graphs are of opset 18, so 'modern' needs torch. Raises as `unpack_onnx`.
    """
    opened = read_container(container)
    need("onnx", "", f"packing {opened.source}")
    from targets.formats.onnx_pack import PROFILES

    opset = None if opened.graph is None else _opset(opened, opened.graph)
    if opset == PROFILES[profile]:
        write_bytes(path, _packed(opened))
        return
    why = _no_graph(opened)
    if opset is not None:
        why = (
            f"profile {profile!r} is of opset {PROFILES[profile]}, the graph that {opened.source} "
            f"carries of {opset}, for 'compatible'"
        )
    candidate = _loaded(opened, why)
    from targets.formats.onnx_packed import OnnxPackedExporter

    OnnxPackedExporter(profile)(candidate, path)


def unpack_state(container: Path, path: Path) -> None:
    """Write the tensors as plain .safetensors, by their names in the net's state_dict, sorted.

    They are those of the net after its edits (batch norm folded, layers factorized). Needs numpy
    and safetensors. Raises ContainerError for damage.
    """
    from safetensors.numpy import save

    state = {name: np.asarray(a, order="C") for name, a in sorted(read_state(container).items())}
    # Some loaders refuse a file that does not say whose names these are.
    write_bytes(path, save(state, metadata={"format": "pt"}))


def unpack_tflite(container: Path, path: Path, packed: bool = False) -> None:
    """Write TFLiteExporter's file, or TFLitePackedExporter's, by torch and litert-torch.

    Raises as `unpack_onnx`.
    """
    opened = read_container(container)
    need_installed("litert_torch", "tflite", f"unpacking {opened.source} as .tflite")
    candidate = _loaded(opened, f"a .tflite is converted from the net in {opened.source}")
    from targets.formats.tflite import TFLiteExporter
    from targets.formats.tflite_packed import TFLitePackedExporter

    exporter = TFLitePackedExporter() if packed else TFLiteExporter()
    exporter(candidate, path)


def _packed(opened: Container) -> bytes:
    """The .onnx of the container's graph with its weights packed, by the container's encodings."""
    import onnx

    from targets.formats.dc_skeleton import onnx_bytes
    from targets.formats.onnx_pack import pack
    from targets.formats.onnx_sheet import checked_bytes

    encodings = {name: found for name, _, found in opened.decode() if found is not None}
    model = _parsed(opened, onnx_bytes(Path(opened.source)))
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of many types, some of them not public
        raise _damaged(opened, error) from error
    pack(model, encodings)
    return checked_bytes(model)


def _opset(opened: Container, graph: bytes) -> int:
    """The version of ONNX's own operators in the graph."""
    imported = _parsed(opened, graph).opset_import
    return next((entry.version for entry in imported if entry.domain in ("", "ai.onnx")), 0)


def _parsed(opened: Container, graph: bytes) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load_from_string(graph)
    except Exception as error:  # protobuf's DecodeError is not a public type
        raise _damaged(opened, error) from error


def _damaged(opened: Container, error: Exception) -> ContainerError:
    return amiss(opened.source, f"the graph is damaged: {one_line(error)}; get the file again")


def _no_graph(opened: Container) -> str:
    return f"{opened.source} carries no graph"


def _loaded(opened: Container, why: str) -> Candidate:
    """The container's candidate, built by torch; `why` that is wanted begins every refusal."""
    builder = _builder(opened.about)
    if not is_own(builder):
        raise ContainerError(
            f"{why}, and a file may name nets of compress.models only, not {builder!r}; in Python, "
            f"export targets.formats.deep_compression.load(path, spec=...)"
        )
    need("torch", "", f"{why}, and building its net")
    from targets.formats.deep_compression import load

    return load(Path(opened.source))


def _builder(about: Mapping[str, Any]) -> str:
    """What builds the net, as far as the file says it: `load` looks closer."""
    spec = about.get("spec")
    builder = cast("Mapping[str, Any]", spec).get("builder") if isinstance(spec, Mapping) else None
    return builder if isinstance(builder, str) else ""
