"""A bench repeated: whether its ratios, and an emulator's counts, come out as they did before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from targets.bench_table import aligned, ratio_text
from targets.measurement import Measurement, Ratio, ratio

_Place = tuple[str, str, str, int]


class Again(NamedTuple):
    """A ratio to the first file of the same target and threads, then and now.

    `repeated`: each lies within the other's interval, which both have.
    """

    measured: Measurement
    before: Ratio
    now: Ratio

    @property
    def repeated(self) -> bool:
        before, now = self.before, self.now
        return now.low <= before.value <= now.high and before.low <= now.value <= before.high


class Recount(NamedTuple):
    """An emulated count of instructions, then and now."""

    measured: Measurement
    before: int
    now: int

    @property
    def change(self) -> float:
        """As a fraction of the earlier count."""
        return self.now / self.before - 1


def ratios_again(before: Sequence[Measurement], now: Sequence[Measurement]) -> list[Again]:
    """Every ratio that both benches tell an interval of, in the order of the later one."""
    old = {_place(m): m for m in before if m.timed}
    firsts: dict[tuple[str, int], Measurement] = {}
    found: list[Again] = []
    for m in now:
        if not m.timed or _place(m) not in old:
            continue
        first = firsts.setdefault((m.target, m.threads), m)
        if m is not first:
            pair = ratio(old[_place(m)], old[_place(first)]), ratio(m, first)
            found += [Again(m, *pair)] if all(r.told for r in pair) else []
    return found


def counts_again(before: Sequence[Measurement], now: Sequence[Measurement]) -> list[Recount]:
    """Every count of instructions that both have."""
    old = {_place(m): m.instructions["insns"] for m in before if m.instructions is not None}
    return [
        Recount(m, old[_place(m)], m.instructions["insns"])
        for m in now
        if m.instructions is not None and _place(m) in old
    ]


def again_table(before: Sequence[Measurement], now: Sequence[Measurement]) -> str:
    """Lines of text: each ratio then and now, and what is to be said of all of them."""
    ratios, counts = ratios_again(before, now), counts_again(before, now)
    rows = [
        (
            *(a.measured.file, a.measured.target, str(a.measured.threads)),
            *(ratio_text(a.before), ratio_text(a.now), "yes" if a.repeated else "NO"),
        )
        for a in ratios
    ]
    head = ("file", "target", "threads", "ratio before [95 %]", "ratio now [95 %]", "repeated")
    within = sum(a.repeated for a in ratios)
    said = [f"{within} of {len(ratios)} ratios lie within each other's intervals"] if ratios else []
    if counts:
        most = max(abs(c.change) for c in counts)
        said.append(f"{len(counts)} counts of instructions within {most:.4%} of those before")
    if not said:
        said = ["nothing to hold against the earlier bench: it has none of this, measured so"]
    return "\n".join(filter(None, (aligned(head, rows), *said)))


def _place(m: Measurement) -> _Place:
    return m.file, m.sha256, m.target, m.threads
