"""What an .onnx file says of its net; the twin of `tflite_schema.tflite_metadata`."""

from __future__ import annotations

import onnx

from compress.errors import DataError, one_line
from targets.metadata import KEY, ArtifactMetadata, read_metadata


def onnx_metadata(content: bytes, source: str) -> ArtifactMetadata | None:
    """What the file says of its net, or None for a file that is not of edgepress.

    Raises DataError, beginning with `source`, for bytes that are no .onnx file.
    """
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError is not a public type
        raise DataError(
            f"{source} is no readable .onnx file ({one_line(error)}); export it anew"
        ) from error
    return metadata_of(model)


def metadata_of(model: onnx.ModelProto) -> ArtifactMetadata | None:
    """As `onnx_metadata`, of a parsed model."""
    text = next((str(entry.value) for entry in model.metadata_props if entry.key == KEY), None)
    return None if text is None else read_metadata(text)
