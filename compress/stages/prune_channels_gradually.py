"""PruneChannelsGradually: a part of the channels, training, the next part, training, and so on.

What was removed is learnt to be done without before more goes, and each choice is made on the net
as it has become (Molchanov et al. 2017, arXiv:1611.06440, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from compress.candidate import Candidate
from compress.checkpoint import load_candidate, save_candidate
from compress.errors import CheckpointError, RangeError
from compress.pruning.costs import Costs
from compress.stage import StageResult, refuse_encoded
from compress.stages.fine_tune import FineTune
from compress.stages.prune_channels import PruneChannels
from compress.stages.reestimate_batchnorm import ReestimateBatchNorm
from compress.task import Task


@dataclass(frozen=True)
class PruneChannelsGradually:
    """Prune as `prune` says in `rounds` steps, each followed by `train`.

    rounds: 1 and more; what is left falls by the same factor in each, and after the last is what
    `prune` says; its `floor`, and its latency, are of what each round finds. train: its epochs
    follow each round; None: none, and without repair batch norms are estimated anew from
    task.calibration. A killed run goes on after the last round that was done, and inside its
    training where the loop keeps checkpoints.
    """

    prune: PruneChannels
    train: FineTune | None
    rounds: int
    changes: ClassVar[Literal["structure", "values"]] = "structure"

    def __post_init__(self) -> None:
        if type(self.prune) is not PruneChannels or type(self.train) not in (FineTune, type(None)):
            raise RangeError(
                f"PruneChannelsGradually(prune={self.prune!r}, train={self.train!r}): a "
                f"PruneChannels and a FineTune (or None) are needed"
            )
        if type(self.rounds) is not int or self.rounds < 1:
            raise RangeError(
                f"PruneChannelsGradually(rounds={self.rounds!r}): allowed are whole numbers from 1"
            )

    def untrained(self) -> PruneChannels:
        """One step of the whole size: what stays where differs, how much does not."""
        return self.prune

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        refuse_encoded(self, candidate)
        if self.train is not None:
            task.need_finetune("PruneChannelsGradually")
        self.prune.check_reach(candidate)
        now, first = self._resumed(candidate, task.scratch)
        for number in range(first, self.rounds + 1):
            step = self._step(candidate, now, number)
            now = self._settled(now if step is None else step(now, task).candidate, task, number)
            if task.scratch is not None:
                save_candidate(now, _after(task.scratch, number))
        if task.scratch is not None:
            for number in range(1, self.rounds + 1):
                _after(task.scratch, number).unlink(missing_ok=True)
        return StageResult(now, *self.prune.report(candidate, _narrower(candidate, now)))

    def _step(self, whole: Candidate, now: Candidate, number: int) -> PruneChannels | None:
        """What to prune in a round; None where an earlier one has done it already."""
        share, prune = number / self.rounds, self.prune
        if prune.keep is not None:
            return replace(prune, keep=prune.keep ** (1 / self.rounds))
        if prune.latency is not None:
            fraction = prune.latency.fraction ** (1 / self.rounds)
            return replace(prune, latency=replace(prune.latency, fraction=fraction))
        kind = "macs" if prune.macs is not None else "parameters"
        asked = prune.macs if prune.macs is not None else prune.parameters
        assert asked is not None
        # Of what is left: a round may have taken more than its part.
        left = asked**share * Costs(whole, (), kind).whole / Costs(now, (), kind).whole
        return replace(prune, **{kind: left}) if left < 1 else None

    def _settled(self, pruned: Candidate, task: Task, number: int) -> Candidate:
        if self.train is None:
            # What was repaired fits the old statistics; new ones made it worse wherever tried.
            repaired = self.prune.repair and task.calibration is not None
            norms = any(n.id.operator == "batch_norm" for n in pruned.network.graph.nodes)
            anew = norms and not repaired
            return ReestimateBatchNorm()(pruned, task).candidate if anew else pruned
        scratch = None if task.scratch is None else task.scratch.with_suffix(f".training{number}")
        tuned = self.train.tuned(pruned, replace(task, scratch=scratch))
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        return tuned

    def _resumed(self, candidate: Candidate, scratch: Path | None) -> tuple[Candidate, int]:
        """What the last round that was done left, and the number of the next one."""
        for number in range(self.rounds, 0, -1):
            path = None if scratch is None else _after(scratch, number)
            if path is not None and path.is_file():
                try:
                    return load_candidate(path, candidate.spec), number + 1
                except CheckpointError as error:
                    raise CheckpointError(
                        f"{path} cannot be resumed from ({error}); delete it and --resume again"
                    ) from error
        return candidate, 1


def _after(scratch: Path, number: int) -> Path:
    return scratch.with_suffix(f".round{number}")


def _narrower(before: Candidate, after: Candidate) -> set[str]:
    """The layers that write fewer channels than they did."""
    widths = {layer.name: layer.shape[layer.axis] for layer in after.network.layers()}
    return {la.name for la in before.network.layers() if widths[la.name] < la.shape[la.axis]}
