"""Where onnxruntime put the nodes of a file: told by a profile, taken apart from any timing."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .onnxruntime_cpu import random_inputs

_CPU = "CPUExecutionProvider"
# The nodes that onnxruntime puts between those of two providers.
_COPIES = ("MemcpyToHost", "MemcpyFromHost")


def placement(options: Any, load: Callable[[Any], Any]) -> dict[str, Any]:
    """{"nodes", "cpu_nodes", "copies"} of one inference, in a session of its own.

    options: for the session; turned to profiling here. load: opens the file with them. nodes: by
    provider. cpu_nodes: those left on the processor, by operator. copies: between the processor's
    nodes and the accelerator's, by direction; the input's and the output's own are not among them.
    """
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = load(options)
        session.run(None, random_inputs(session, np.random.default_rng(0)))
        # Read before the folder goes.
        events = json.loads(Path(session.end_profiling()).read_text())
    return _counted(events)


def _counted(events: list[Mapping[str, Any]]) -> dict[str, Any]:
    ran = [
        (str(event["args"].get("provider")), str(event["args"].get("op_name")))
        for event in events
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
    ]
    nodes = [(provider, kind) for provider, kind in ran if kind not in _COPIES]
    return {
        "nodes": dict(Counter(provider for provider, _ in nodes)),
        "cpu_nodes": dict(Counter(kind for provider, kind in nodes if provider == _CPU)),
        "copies": {kind: sum(k == kind for _, k in ran) for kind in _COPIES},
    }


def refuse_fallback(session: Any, provider: str, why: str) -> None:
    """RuntimeError unless `provider` stands first in the session: onnxruntime says nothing."""
    there = list(session.get_providers())
    if there[:1] != [provider]:
        raise RuntimeError(
            f"onnxruntime fell back to {', '.join(there)} instead of {provider}{why}; nothing was "
            f"measured"
        )


def refuse_idle(counted: Mapping[str, Any], providers: tuple[str, ...]) -> None:
    """RuntimeError where no node at all ran on any of `providers`."""
    if not any(counted["nodes"].get(provider) for provider in providers):
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(counted["cpu_nodes"].items()))
        raise RuntimeError(
            f"onnxruntime left every node to the processor, none to {providers[0]} ({kinds}); "
            f"nothing was measured"
        )
