"""shrink, from the model and the pictures to the report; each step is a module beside this one."""

from __future__ import annotations

import importlib.util

import torch

from compress.stage import run
from compress.stages.fold_batchnorm import FoldBatchNorm
from recipes.shrinking.answers import Original
from recipes.shrinking.choice import loss
from recipes.shrinking.ladder import FP32, LADDER, Rung, is_hopeless
from recipes.shrinking.material import Material, gather_material
from recipes.shrinking.net import Net, name_of, open_net
from recipes.shrinking.reporting import report_of, sentences, size_text, table_text
from recipes.shrinking.trial import Bench, Trial, make, task_of
from recipes.shrinking.wish import Wish
from recipes.toolbox.delivery import EXTRAS
from recipes.toolbox.folder import Identity, RunFolder, open_folder
from recipes.toolbox.progress import busy, say
from targets.render import write_all
from targets.report import Report


def shrink(wish: Wish) -> Report:
    """Do what `wish` asks, saying each step; files and report are in wish.out."""
    # Refused at once where it holds something; emptied only when all that is given can be used.
    folder = _open_folder(wish) if wish.out.exists() and not wish.overwrite else None
    with busy(f"opening {wish.model}"):
        net = open_net(wish)
    material = gather_material(wish.images, wish.test, net.candidate.spec)
    folder = folder or _open_folder(wish)
    for note in (*net.notes, *material.notes):
        say(note)
    original = Original.on(
        net.answer, material.selection, material.preprocess, "asking the original"
    )
    bench = Bench(folder.path, net.name, material, original)
    trials = _climb(wish, net, material, bench)
    report = report_of(wish, net, material, original, trials)
    write_all(report, folder.path)
    say(f"\n{table_text(report)}\n")
    for sentence in sentences(report):
        say(sentence)
    say(f"report: {folder.path / 'report.html'}")
    return report


def _open_folder(wish: Wish) -> RunFolder:
    asked = Identity(f"shrink {name_of(wish.model)}", 0, False, torch.get_num_threads())
    return open_folder(wish.out, asked, resume=False, overwrite=wish.overwrite)


def _climb(wish: Wish, net: Net, material: Material, bench: Bench) -> list[Trial]:
    """Try each rung of the ladder, leaving out those beyond hope."""
    missing = _missing_formats()
    task = task_of(material)
    with busy("folding batch norms"):
        made = {FP32.label: run(net.candidate, [FoldBatchNorm()], task)}
    hopeless: set[str] = set()
    trials: list[Trial] = []
    for rung in LADDER:
        if rung.bits is not None and rung.start in hopeless:
            continue
        if rung.label not in made:
            made[rung.label] = make(rung, made[rung.start], task)
        formats = [form for form in rung.formats if form not in missing]
        done = bench.trials(rung, made[rung.label], formats)
        for trial in done:
            say(size_text(trial))
        trials += done
        if _beyond_hope(rung, done, wish, bench.original.top1):
            hopeless.add(rung.start)
    return trials


def _beyond_hope(rung: Rung, done: list[Trial], wish: Wish, top1: float | None) -> bool:
    lost = min(loss(trial, top1) for trial in done)
    most = 0.05 if wish.budget_bytes is not None else wish.max_drop
    return rung.bits is not None and is_hopeless(lost, most)


def _missing_formats() -> set[str]:
    """Formats whose package is not installed, each said with the pip command."""
    missing: set[str] = set()
    for form, (module, extra) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            say(f"no .{form} files: run pip install 'edgepress[{extra}]' to have them")
            missing.add(form)
    return missing
