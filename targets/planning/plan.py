"""plan.json: what a recipe will give, as known before any training. Schema 1.

Sizes, operations, time and memory are those of real files of the untrained net; a verdict on each
question comes from the rules, beside what those files were measured to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from compress.atomic import write_text
from compress.errors import ReportError
from targets.planning.claims import Answer
from targets.schema import read_data

SCHEMA = 1


@dataclass(frozen=True)
class Figures:
    """Of one file. times_ms: raw times by process. memory_bytes: resident after loading, less what
    was before. The last two are None where the file is not run.
    """

    file_bytes: int
    download_bytes: int
    latency_ms: float | None = None
    times_ms: tuple[tuple[float, ...], ...] = ()
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if min(self.file_bytes, self.download_bytes) < 0 or (self.latency_ms or 0) < 0:
            raise ReportError(f"figures {self.file_bytes}, {self.download_bytes}: 0 or more needed")
        if any(not times for times in self.times_ms):
            raise ReportError("times_ms has a process without a time")


@dataclass(frozen=True)
class Judged:
    """A rule's answer to one question, and what the files were measured to do.

    ratio: after / before, in bytes or time; None where it was not measured. seen: "unclear" where
    the measurement is too noisy to say.
    """

    question: Literal["file", "download", "latency", "memory"]
    answer: Answer
    reason: str
    ratio: float | None = None
    seen: Literal["yes", "no", "worse", "unclear"] | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether the measurement confirms the rule; None where one of them claims nothing."""
        if self.seen in (None, "unclear") or self.answer not in ("yes", "no", "worse"):
            return None
        return (self.answer == "yes") == (self.seen == "yes")


@dataclass(frozen=True)
class PlannedFile:
    """One file of one stage's net on one target.

    path: its name where the recipe delivers it, else ''. runtime: with its version. against: what
    the verdicts compare it with, '' for the first. missing: why there is no file, or no time.
    """

    format: str
    runtime: str
    threads: int
    path: str = ""
    figures: Figures | None = None
    against: str = ""
    verdicts: tuple[Judged, ...] = ()
    missing: str = ""
    params: int = 0
    nonzeros: int = 0
    macs: int = 0


@dataclass(frozen=True)
class PlannedStage:
    """What a stage makes of the net of stage `after` (None: the net that the recipe begins with).

    planned_as: what ran in its place; () where it ran as it is. skipped: how many layers it left
    alone, by reason. same: the net's form is what it was before, so there are no files.
    """

    number: int
    stage: str
    after: int | None = None
    settings: str = ""
    planned_as: tuple[str, ...] = ()
    seconds: float = 0.0
    parameters: int = 0
    nonzeros: int = 0
    macs: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])
    same: bool = False
    files: tuple[PlannedFile, ...] = ()


@dataclass(frozen=True)
class Plan:
    """One dry run. random: the recipe trains from random weights. files: what it will deliver,
    each compared with the untouched fp32 file.
    """

    recipe: str
    net: str | None
    seed: int
    created: str
    git_commit: str | None
    environment: Mapping[str, str | int | float | None]
    cpu: str
    random: bool
    stages: tuple[PlannedStage, ...]
    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Deterministic text, ends with a newline."""
        data: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        return (
            json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )


def write_plan(plan: Plan, path: Path) -> None:
    """Write plan.json whole or not at all."""
    write_text(path, plan.to_json())


def read_plan(path: Path) -> Plan:
    """Read a plan.json of schema 1. ReportError, one line, names the first wrong place."""
    return read_data(path, Plan, SCHEMA, "plans of")
