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


class Profile:
    """A profile of one session, of all its runs until it is read."""

    def __init__(self, options: Any) -> None:
        """options: of the session that is opened next; turned to profiling here."""
        self._folder = tempfile.TemporaryDirectory()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")

    def read(self, session: Any) -> dict[str, Any]:
        """{"nodes", "cpu_nodes", "copies"} of one inference; the profile ends here.

        nodes: by provider. cpu_nodes: those left on the processor, by operator. copies: between
        the processor's nodes and the accelerator's, by direction; the input's and the output's own
        are not among them.
        """
        events = json.loads(Path(session.end_profiling()).read_text())
        self._folder.cleanup()
        return _counted(events)


def placement(options: Any, load: Callable[[Any], Any]) -> dict[str, Any]:
    """What `Profile.read` tells, by a session of its own that `load` opens with the options."""
    profile = Profile(options)
    session = load(options)
    session.run(None, random_inputs(session, np.random.default_rng(0)))
    return profile.read(session)


def _counted(events: list[Mapping[str, Any]]) -> dict[str, Any]:
    ran = {
        (e["name"], e["args"].get("node_index"), e["args"].get("provider"), e["args"]["op_name"])
        for e in events
        if e.get("cat") == "Node" and str(e["name"]).endswith("_kernel_time")
    }
    nodes = [(provider, kind) for *_, provider, kind in ran if kind not in _COPIES]
    return {
        "nodes": dict(sorted(Counter(provider for provider, _ in nodes).items())),
        "cpu_nodes": dict(sorted(Counter(k for provider, k in nodes if provider == _CPU).items())),
        "copies": {kind: sum(k == kind for *_, k in ran) for kind in _COPIES},
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
