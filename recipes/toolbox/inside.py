"""What `edgepress inspect --run` adds to a file: its audit, its load time and its memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.errors import DataError, DeviceError
from recipes.toolbox.progress import busy
from targets.audit.data import Audit
from targets.bench import RUNNABLE, benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Target

_PLAN = Plan(runs=20, rounds=3, warmup_s=0.2, max_s=0.3)


@dataclass(frozen=True)
class Inside:
    """A file in its runtime. measured: None where it cannot be run by itself, `reason` says why."""

    audit: Audit
    measured: Measurement | None
    reason: str = field(default="")

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the audit, and what loading takes."""
        names = ("load_ms", "rss_base_bytes", "rss_load_bytes", "peak_rss_load_bytes")
        known = self.measured
        taken = {name: None if known is None else getattr(known, name) for name in names}
        median = None if known is None else known.median_ms
        why = self.reason or "the system does not show it"
        return {
            "audit": self.audit.to_dict(),
            **taken,
            "median_ms": median,
            "not_measured": {name: why for name in names if taken[name] is None},
        }


def look_inside(path: Path) -> Inside:
    """Load `path` in its runtime, a few times. DataError for a kind that none loads."""
    if path.suffix not in RUNNABLE:
        hint = f"; run `edgepress unpack {path}` first" if path.suffix == ".dc" else ""
        raise DataError(
            f"{path} cannot be run: a stock runtime loads {' and '.join(RUNNABLE)}{hint}"
        )
    with busy(f"loading {path.name}"):
        audit = _audit(path)
        try:
            (measured,) = benchmark([path], [Target(LocalDevice())], _PLAN)
        except DeviceError as error:
            return Inside(audit, None, str(error))
    return Inside(audit, measured)


def _audit(path: Path) -> Audit:
    # Slow to import, each for one kind of file.
    if path.suffix == ".onnx":
        from targets.audit.onnx import audit_onnx

        return audit_onnx(path)
    from targets.audit.tflite import audit_tflite

    return audit_tflite(path)
