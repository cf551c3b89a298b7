"""Exported files that several test modules look at, each written once a session."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from compress.candidate import Candidate
from targets.artifact import Artifact


@functools.cache
def exported(exporter: Any, candidate: Candidate) -> Artifact:
    """The candidate's file by this exporter (a frozen dataclass); candidates go by identity."""
    return exporter(candidate, Path(tempfile.mkdtemp()) / f"net{exporter.suffix}")
