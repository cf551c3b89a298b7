"""From deliveries to the report: every file timed side by side, sizes by stage, one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.candidate import Candidate
from recipes.toolbox.progress import busy, counted_bar
from targets.advice import advise
from targets.answers import agreement, answers_sqnr
from targets.assemble import build_report, fp32_bytes
from targets.bench import RUNNABLE, benchmark
from targets.devices.local import LocalDevice
from targets.formats.deep_compression import DeepCompressionExporter
from targets.measurement import Measurement, Plan, Target
from targets.methods import SMALLER, UNTOUCHED
from targets.render import write_all
from targets.report import Report
from targets.rows import About, Baseline, Entry, Score

if TYPE_CHECKING:
    from recipes.toolbox.delivery import Delivery

FULL = Plan(runs=200, rounds=5, warmup_s=0.5, max_s=1.0)
SMOKE = Plan(runs=10, rounds=1, warmup_s=0.1, max_s=0.2)


@dataclass
class Sizes:
    """Bytes of the real container after each stage, for the waterfall; written in `folder`.

    `found` is keyed by the digests of all steps so far: two branches of a recipe may have the same
    stage at the same depth.
    """

    folder: Path
    found: dict[tuple[str, ...], int] = field(default_factory=dict[tuple[str, ...], int])

    def measure(self, candidate: Candidate) -> None:
        """Write the candidate's container aside and keep its size."""
        aside = self.folder / "size.dc"
        try:
            artifact = DeepCompressionExporter()(candidate, aside)
        finally:
            aside.unlink(missing_ok=True)
        self.found[_steps(candidate)] = artifact.size_bytes

    def of(self, candidate: Candidate) -> dict[str, int]:
        """The sizes along the candidate's own history, by place and stage: '1. FineTune'."""
        steps = _steps(candidate)
        return {
            f"{i}. {candidate.history[i - 1].stage}": self.found[steps[:i]]
            for i in range(1, len(steps) + 1)
            if steps[:i] in self.found
        }


def _steps(candidate: Candidate) -> tuple[str, ...]:
    return tuple(step.digest for step in candidate.history)


def summarize(
    about: About,
    deliveries: Sequence[Delivery],
    sizes: Sizes,
    plan: Plan,
    untouched: Candidate | None = None,
) -> Report:
    """Benchmark every runnable file, interleaved, and gather all into a Report.

    The first delivery is the fp32 file that the others are compared with. Ratios are to the
    weights of `untouched`, the net before any stage (default: the first delivery's).
    """
    runnable = [d.artifact for d in deliveries if d.artifact.path.suffix in RUNNABLE]
    with counted_bar("measuring latency") as progress:
        measured = benchmark(runnable, [Target(LocalDevice())], plan, progress)
    reference = deliveries[0]
    # The last one's history and layers are shown: those of a net that was compressed here.
    ordered = sorted(deliveries, key=lambda d: d.smaller is None)
    candidates = list({id(d.candidate): d.candidate for d in ordered}.values())
    with busy("counting the files' bytes, and compressing them as downloads"):
        return build_report(
            about,
            candidates,
            [_entry(d, reference, measured) for d in deliveries],
            baseline=Baseline(fp32_bytes(untouched or reference.candidate), reference.top1),
            sizes=sizes.of(candidates[-1]),
        )


def save(report: Report, folder: Path) -> str:
    """Write report.json, report.md and report.html; the sentence that says what to ship."""
    write_all(report, folder)
    return advise(report).sentence


def _entry(delivery: Delivery, reference: Delivery, measured: Sequence[Measurement]) -> Entry:
    own = [m for m in measured if m.sha256 == delivery.artifact.sha256]
    method = UNTOUCHED if delivery.candidate is reference.candidate else None
    return Entry(
        artifact=delivery.artifact,
        score=_score(delivery, reference),
        measurement=own[0] if own else None,
        method=SMALLER if delivery.smaller else method,
        model=delivery.smaller,
    )


def _score(delivery: Delivery, reference: Delivery) -> Score | None:
    """Accuracy, pictures won and lost, agreement and noise against the first (fp32) file."""
    right, before = delivery.right, reference.right
    if right is None or before is None:
        return None
    own, theirs = delivery.answers, reference.answers
    return Score(
        top1=float(right.mean()),
        samples=len(right),
        won=int(np.count_nonzero(right & ~before)),
        lost=int(np.count_nonzero(before & ~right)),
        evaluated_sha256=delivery.evaluated_sha256,
        agreement=None if own is None or theirs is None else agreement(theirs, own),
        logit_sqnr_db=None if own is None or theirs is None else answers_sqnr(theirs, own),
    )
