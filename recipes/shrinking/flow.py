"""shrink, from the model and the pictures to the report; each step is a module beside this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from compress.stage import run
from compress.stages.fold_batchnorm import FoldBatchNorm
from recipes.shrinking.answers import Original
from recipes.shrinking.climb import Climb
from recipes.shrinking.ladder import FP32
from recipes.shrinking.material import gather_material
from recipes.shrinking.net import is_file, name_of, open_net
from recipes.shrinking.reporting import report_of, sentences, table_text
from recipes.shrinking.trial import COMPARED, Bench, task_of
from recipes.shrinking.wish import Wish
from recipes.toolbox.folder import Identity, RunFolder, open_folder
from recipes.toolbox.progress import busy, say
from targets.imported import assert_imported
from targets.render import write_all
from targets.report import Report


def shrink(wish: Wish) -> Report:
    """Do what `wish` asks, saying each step; files and report are in wish.out."""
    # Refused at once where it holds something; emptied only when all that is given can be used.
    folder = _open_folder(wish) if wish.out.exists() and not wish.overwrite else None
    with busy(f"opening {wish.model}"):
        net = open_net(wish)
    material = gather_material(wish.images, wish.test, net.candidate.spec)
    for note in (*net.notes, *material.notes):
        say(note)
    if is_file(wish.model):
        with busy(f"comparing the import of {wish.model} with the file"):
            assert_imported(
                net.candidate, Path(wish.model), next(material.calibration())[:COMPARED]
            )
    original = Original.on(
        net.answer, material.selection, material.preprocess, "asking the original"
    )
    folder = folder or _open_folder(wish)
    task = task_of(material)
    with busy("folding batch norms"):
        folded = run(net.candidate, [FoldBatchNorm()], task)
    bench = Bench(folder.path, net.name, material, original)
    climb = Climb(wish, bench, task, {FP32.label: folded})
    climb.run()
    report = report_of(wish, net, bench, climb.trials)
    report = replace(report, not_measured=(*report.not_measured, *climb.left_out))
    write_all(report, folder.path)
    say(f"\n{table_text(report)}\n")
    for sentence in sentences(report):
        say(sentence)
    say(f"report: {folder.path / 'report.html'}")
    return report


def _open_folder(wish: Wish) -> RunFolder:
    asked = Identity(f"shrink {name_of(wish.model)}", 0, False, torch.get_num_threads())
    return open_folder(wish.out, asked, resume=None, overwrite=wish.overwrite)
