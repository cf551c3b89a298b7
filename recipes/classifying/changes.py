"""Where two files answer differently on the same pictures, and who of them is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from compress.errors import DataError
from recipes.classifying.answers import Answers
from recipes.pictures.sources import Pictures
from recipes.toolbox.model_files import ModelFile
from targets.intervals import paired_difference
from targets.units import wilson

Verdict = Literal["lost", "won", "both wrong"]


@dataclass(frozen=True)
class Change:
    """A picture on which the file's answer is not the reference's. Shares are probabilities.

    `before` and `after`: the class that the reference, the file takes for the likeliest;
    `kept_share`: what the file still gives `before`. `label` is None where nobody has said it.
    """

    index: int
    name: str
    label: int | None
    before: int
    before_share: float
    after: int
    after_share: float
    kept_share: float

    @property
    def confidence_lost(self) -> float:
        """How much probability the reference's answer has lost; negative where it has won some."""
        return self.before_share - self.kept_share

    @property
    def tie(self) -> bool:
        """True where the file takes both answers for equally likely: its grid holds no more."""
        return self.kept_share == self.after_share

    @property
    def verdict(self) -> Verdict | None:
        """'lost': only the reference is right; 'won': only the file; None without a label."""
        if self.label is None:
            return None
        if self.label == self.before:
            return "lost"
        return "won" if self.label == self.after else "both wrong"


@dataclass(frozen=True)
class Comparison:
    """A file against a reference on `samples` pictures; `changes`: the most confidence lost first.

    `right_before` and `right_after`: pictures on which the reference, the file is right; None
    without labels.
    """

    samples: int
    changes: tuple[Change, ...]
    right_before: int | None
    right_after: int | None

    @property
    def labelled(self) -> bool:
        return self.right_before is not None

    @property
    def lost(self) -> int:
        """Pictures that only the reference has right."""
        return self.count("lost")

    @property
    def won(self) -> int:
        """Pictures that only the file has right."""
        return self.count("won")

    def count(self, verdict: Verdict) -> int:
        return sum(change.verdict == verdict for change in self.changes)

    @property
    def changed_share(self) -> float:
        """The share of pictures with another answer, in [0, 1]."""
        return len(self.changes) / self.samples

    def changed_interval(self) -> tuple[float, float]:
        """95 % interval of `changed_share`."""
        return wilson(self.changed_share, self.samples)

    @property
    def drop(self) -> float:
        """The share of pictures lost, net: top-1 of the reference less that of the file."""
        return (self.lost - self.won) / self.samples

    def drop_interval(self) -> tuple[float, float]:
        """95 % interval of `drop`."""
        return paired_difference(self.lost, self.won, self.samples)


def check_comparable(file: ModelFile, reference: ModelFile) -> None:
    """DataError unless both know the same classes, as far as they name them."""
    if len(file.classes) != len(reference.classes):
        raise DataError(
            f"{file.path} has {len(file.classes):,} classes, {reference.path} has "
            f"{len(reference.classes):,}; compare files of one net"
        )
    pairs = zip(file.classes, reference.classes, strict=True)
    parted = next((n for n, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
    if file.named and reference.named and parted is not None:
        raise DataError(
            f"class {parted} is {file.classes[parted]!r} in {file.path}, "
            f"{reference.classes[parted]!r} in {reference.path}; compare files of one net, or give "
            f"both the same names with --labels"
        )


def compare(after: Answers, before: Answers, pictures: Pictures) -> Comparison:
    """The file's answers `after` against the reference's `before`."""
    labels = pictures.labels
    ours, theirs = after.first, before.first
    changes: list[Change] = []
    for index in (ours != theirs).nonzero()[0]:
        shares, reference = after.shares(index), before.shares(index)
        old, new = int(theirs[index]), int(ours[index])
        label = None if labels is None else int(labels[index])
        seen = float(reference[old]), new, float(shares[new]), float(shares[old])
        changes.append(Change(int(index), pictures.name(int(index)), label, old, *seen))
    ordered = sorted(changes, key=lambda change: (-change.confidence_lost, change.index))
    right = None if labels is None else (int((theirs == labels).sum()), int((ours == labels).sum()))
    return Comparison(len(after), tuple(ordered), *(right or (None, None)))


def names_for(file: ModelFile, others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What to call the classes: the file's names, else the first of `others` that are names."""
    numbers = tuple(map(str, range(len(file.classes))))
    for names in (file.classes, *others):
        if len(names) == len(numbers) and names != numbers:
            return names
    return tuple(f"class {number}" for number in numbers)
