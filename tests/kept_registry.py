"""torch's exporter parses the sources of all its operators again for each file it writes.

The table is always the same and nothing writes to it here, and making it is a third of the time of
a small net's export: it is made once a process. The files are the same byte by byte.
"""

from __future__ import annotations

import functools

from torch.onnx._internal.exporter._registration import ONNXRegistry


def keep_registry() -> None:
    """Make the table once for each opset."""
    made = functools.cache(ONNXRegistry.from_torchlib)
    ONNXRegistry.from_torchlib = staticmethod(made)  # type: ignore[method-assign,assignment]
