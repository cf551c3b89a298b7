"""A scan of sensitivities that is kept in a run's folder, and read again when it resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from compress.atomic import write_text
from compress.candidate import Candidate
from compress.errors import CheckpointError, ReportError
from compress.stage import Stage
from compress.stages.int8_sensitivity import Int8Sensitivity, scan_int8
from compress.stages.sensitivity import Sensitivity, scan
from compress.task import Task
from targets.schema import decode, read_json

Found = TypeVar("Found", Sensitivity, Int8Sensitivity)
# Of a smoke run.
FEW_PICTURES = 4


def kept_scan(
    candidate: Candidate, task: Task, sparsities: Sequence[float], folder: Path, resume: bool
) -> Sensitivity:
    """compress.stages.sensitivity.scan, from its file in `folder` where it is there already.

    The file is known by the candidate's digest, the task's fingerprint and the sparsities. Raises
    CheckpointError for one that is damaged.
    """
    asked = [candidate.digest(), task.fingerprint, list(sparsities)]
    path = _path(folder, "scan", asked)
    return _kept(Sensitivity, path, resume, lambda: scan(candidate, task, sparsities))


def kept_int8_scan(
    candidate: Candidate,
    task: Task,
    how: tuple[Stage | tuple[Stage, ...], int, int],
    folder: Path,
    resume: bool,
) -> Int8Sensitivity:
    """compress.stages.int8_sensitivity.scan_int8 kept likewise; how: (quantize, pictures, mend)."""
    quantize, pictures, mend = how
    asked = [candidate.digest(), task.fingerprint, repr(quantize), pictures, mend]
    path = _path(folder, "int8-scan", asked)

    def found() -> Int8Sensitivity:
        return scan_int8(candidate, task, quantize, pictures=pictures, mend=mend)

    return _kept(Int8Sensitivity, path, resume, found)


def _path(folder: Path, kind: str, asked: object) -> Path:
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    return folder / f"{kind}-{key}.json"


def _kept(kind: type[Found], path: Path, resume: bool, scanned: Callable[[], Found]) -> Found:
    """From the file at `path` when resuming, else found anew and kept there."""
    if resume and path.is_file():
        try:
            return decode(kind, read_json(path), "")
        except ReportError as error:
            raise CheckpointError(
                f"scan {path} cannot be read ({error}); delete it and --resume again"
            ) from error
    found = scanned()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(found), allow_nan=False) + "\n")
    return found
