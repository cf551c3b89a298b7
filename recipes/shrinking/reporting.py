"""From trials to the report, and what the terminal shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from recipes.shrinking.answers import Original, answers_of
from recipes.shrinking.choice import why_not_timed
from recipes.shrinking.material import Material
from recipes.shrinking.net import Net
from recipes.shrinking.trial import Bench, Trial
from recipes.shrinking.wish import Wish
from recipes.toolbox.delivery import RUNTIMES
from recipes.toolbox.progress import busy, counted_bar
from targets.advice import Advice, advise, reference_of
from targets.assemble import build_report, fp32_bytes
from targets.bench import benchmark
from targets.devices.local import LocalDevice
from targets.measurement import Measurement, Plan, Target
from targets.report import Report
from targets.report_row import HeldOut, Row
from targets.rows import About, Baseline, Entry
from targets.units import share_text, times_text

PLAN = Plan(runs=60, rounds=3, warmup_s=0.3, max_s=0.3)
_DEVICES = {"local": LocalDevice}
_UNCOMPARED = (
    "int8 files were judged by their answers, not compared operator by operator with the integers "
    "that they should compute, as `edgepress run` does"
)
_TIMES = (
    *("runtime", "provider", "device", "threads", "load_ms", "first_ms", "latency_ms"),
    *("times_ms", "peak_rss_bytes", "rss_base_bytes", "provenance", "noisy"),
    *("rss_load_bytes", "peak_rss_load_bytes"),
)


def report_of(wish: Wish, net: Net, bench: Bench, trials: Sequence[Trial]) -> Report:
    """Time what may be recommended, score it on the test pictures, gather all."""
    material, original = bench.material, bench.original
    reasons = {t.artifact.path: why_not_timed(t, trials, wish, original.top1) for t in trials}
    timed = [t for t in trials if not reasons[t.artifact.path]]
    with counted_bar("measuring latency") as progress:
        targets = [Target(_DEVICES[name]()) for name in wish.targets]
        measured = benchmark([t.artifact for t in timed], targets, PLAN, progress)
    held = _held_out(net, material, timed)
    entries = [_entry(t, measured, held.get(t.ran.path), reasons[t.artifact.path]) for t in trials]
    candidates = list({id(t.candidate): t.candidate for t in trials}.values())
    with busy("counting the files' bytes, and compressing them as downloads"):
        report = build_report(
            _about(wish, net, material),
            candidates,
            entries,
            baseline=Baseline(fp32_bytes(net.candidate), original.top1),
        )
    return replace(report, not_measured=(*report.not_measured, _UNCOMPARED))


def _about(wish: Wish, net: Net, material: Material) -> About:
    size = () if net.file_bytes is None else (f"The original has {net.file_bytes:,} bytes.",)
    return About(
        recipe=f"shrink {net.name}",
        model=net.name,
        dataset=wish.images.name,
        method="none",
        seed=0,
        max_drop=wish.max_drop,
        budget_bytes=wish.budget_bytes,
        scored_on="selection pictures",
        notes=(*net.notes, *material.notes, *size),
    )


def _held_out(net: Net, material: Material, timed: Sequence[Trial]) -> dict[Path, HeldOut]:
    """Each timed file on the test pictures, once; nothing where there are none."""
    if material.test is None:
        return {}
    original = Original.on(
        net.answer, material.test, material.preprocess, "asking the original on test pictures"
    )
    found: dict[Path, HeldOut] = {}
    for trial in timed:
        path = trial.artifact.path
        session = RUNTIMES[trial.artifact.format].load(path, torch.get_num_threads())
        what = f"testing {path.name}"
        answers = answers_of(session.predict, material.test, material.preprocess, what)
        found[path] = original.held_out(answers)
    return found


def _entry(
    trial: Trial, measured: Sequence[Measurement], held: HeldOut | None, reason: str
) -> Entry:
    own = [m for m in measured if m.sha256 == trial.artifact.sha256]
    reasons: Mapping[str, str] = dict.fromkeys(_TIMES, reason) if reason else {}
    return Entry(
        artifact=trial.artifact,
        score=trial.score,
        measurement=own[0] if own else None,
        method=trial.rung.method,
        held_out=held,
        reasons=reasons,
    )


def table_text(report: Report) -> str:
    """A line a file: size, download, ratio, fidelity, time against fp32."""
    labelled = any(row.top1 is not None for row in report.rows)
    tested = any(row.held_out is not None for row in report.rows)
    head = ["file", "bytes", "download", "ratio", "agreement"]
    head += ["top-1" if labelled else "est. loss", *(["test top-1"] if tested else []), "time"]
    lines = [head, *(_cells(row, report, labelled, tested) for row in report.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row, report: Report, labelled: bool, tested: bool) -> list[str]:
    fidelity = row.top1 if labelled else row.estimated_drop
    assert row.agreement is not None and fidelity is not None and row.ratio is not None
    held = "" if row.held_out is None else share_text(row.held_out.top1)
    return [
        row.path,
        f"{row.file_bytes:,}",
        f"{row.download_bytes:,}",
        times_text(row.ratio),
        share_text(row.agreement),
        share_text(fidelity),
        *([held] if tested else []),
        _time(row, report),
    ]


def _time(row: Row, report: Report) -> str:
    """Times the fp32 file's of the same format; '-' where it was not timed."""
    reference = reference_of(row, report.rows)
    if row.latency_ms is None or reference is None or reference.latency_ms is None:
        return "-"
    return times_text(row.latency_ms.median / reference.latency_ms.median)


def sentences(report: Report) -> tuple[str, ...]:
    """What to ship, and what to know of it."""
    advice: Advice = advise(report)
    return (advice.sentence, *advice.notes)
