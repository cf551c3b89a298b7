"""Report: what was compressed, written and measured, as frozen data; report.json is its text.

Schema 1. Every number is of the very file that the row names. What was not measured is null and
stands in the row's `not_measured` with its reason. Renderings (render.py) are pure functions of
a Report; assemble.py makes one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compress.atomic import write_text
from compress.errors import ReportError
from targets.account import FileAccount
from targets.device_results import DeviceResult
from targets.int8_scan import Int8Scan
from targets.planning.plan import Plan
from targets.report_row import Row
from targets.report_stages import Layer, SensitivityScan, SizePoint, StepRow
from targets.schema import read_data
from targets.sizing.account import SizeAccount
from targets.tradeoff import Tradeoff

SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """One run of a recipe. max_drop: the loss of top-1, in [0, 1], that the recipe allows.

    Without labels the estimated loss is held against it. budget_bytes: the most bytes that a file
    may have; then the most faithful file within it is asked for, and max_drop says nothing.
    scored_on: what the pictures are that top1 and agreement are of. notes: what a reader must know
    before the figures.
    `smoke`: a tiny run, made to see that everything works; its figures mean nothing.
    sensitivity: each layer pruned alone, where the recipe scanned that; null where it did not.
    int8_scan: each layer quantized alone, likewise. tradeoff: agreement of nets with fewer MACs.
    Additions to schema 1: max_drop, sizes, layers, not_measured (what concerns no single row),
    smoke (false where it is not given), budget_bytes, scored_on, notes, sensitivity, int8_scan,
    tradeoff, accounts (where the bytes of each container are), sizes_by_cause (those of every
    file), planned (what edgepress plan predicted), elsewhere (the files on further targets).
    """

    recipe: str
    git_commit: str | None
    seed: int
    created: str
    environment: Mapping[str, str | int | float | None]
    steps: tuple[StepRow, ...]
    rows: tuple[Row, ...]
    max_drop: float = 0.005
    sizes: tuple[SizePoint, ...] = ()
    layers: tuple[Layer, ...] = ()
    not_measured: tuple[str, ...] = ()
    smoke: bool = False
    budget_bytes: int | None = None
    scored_on: str = "test images"
    notes: tuple[str, ...] = ()
    sensitivity: SensitivityScan | None = None
    int8_scan: Int8Scan | None = None
    tradeoff: Tradeoff | None = None
    planned: Plan | None = None
    accounts: tuple[FileAccount, ...] = ()
    sizes_by_cause: tuple[SizeAccount, ...] = ()
    elsewhere: tuple[DeviceResult, ...] = ()

    def __post_init__(self) -> None:
        if self.git_commit is not None and not re.fullmatch(
            r"[0-9a-f]{40}(-dirty)?", self.git_commit
        ):
            raise ReportError(f"git_commit is {self.git_commit!r}; 40 hexadecimal digits or null")
        if not 0.0 <= self.max_drop <= 1.0:
            raise ReportError(f"max_drop is {self.max_drop}; 0..1 is allowed")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ReportError(f"budget_bytes is {self.budget_bytes}; 1 or more are allowed")

    def to_json(self) -> str:
        """Deterministic text: sorted keys, lists of numbers on one line, ends with a newline."""
        data: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        text = json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        # A line break inside a JSON string is written as \n, so only structure can match.
        return re.sub(r"\[\n[\d\s.,eE+-]*\]", lambda m: " ".join(m[0].split()), text) + "\n"


def write_report(report: Report, path: Path) -> None:
    """Write report.json whole or not at all."""
    write_text(path, report.to_json())


def read_report(path: Path) -> Report:
    """Read a report.json of schema 1. ReportError, one line, names the first wrong place."""
    return read_data(path, Report, SCHEMA, "schema")
