"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


def columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[str]
) -> Iterator[str]:
    """Columns of equal width, a line at a time: those named in `left` to the left, others right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lefts = {i for i, name in enumerate(head) if name in left}
    for line in lines:
        cells = (
            cell.ljust(w) if i in lefts else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
