"""A scan of sensitivities that is kept in a run's folder, and read again when it resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from compress.atomic import write_text
from compress.candidate import Candidate
from compress.errors import CheckpointError, ReportError
from compress.stages.sensitivity import Sensitivity, scan
from compress.task import Task
from targets.schema import decode, read_json


def kept_scan(
    candidate: Candidate, task: Task, sparsities: Sequence[float], folder: Path, resume: bool
) -> Sensitivity:
    """compress.stages.sensitivity.scan, from its file in `folder` where it is there already.

    The file is known by the candidate's digest, the task's fingerprint and the sparsities. Raises
    CheckpointError for one that is damaged.
    """
    asked = [candidate.digest(), task.fingerprint, list(sparsities)]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    path = folder / f"scan-{key}.json"
    if resume and path.is_file():
        try:
            return decode(Sensitivity, read_json(path), "")
        except ReportError as error:
            raise CheckpointError(
                f"scan {path} cannot be read ({error}); delete it and --resume again"
            ) from error
    found = scan(candidate, task, sparsities)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(found)) + "\n")
    return found
