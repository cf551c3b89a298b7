"""The report's charts of accuracy against a cost as SVG: download size, latency. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from targets.charts import FONT, WIDTH
from targets.loss import fidelity_of
from targets.methods import UNTOUCHED
from targets.report_row import Row
from targets.scatter_axes import ROOM, SIZE, Cost, Heights, Scale
from targets.smaller import is_smaller
from targets.svg import CHARACTER_WIDTH, figure, line, marker, place_labels, polyline, shorten, text
from targets.units import share_text, wilson
from targets.words import common_start

_SHAPES = {"onnx": "circle", "tflite": "square"}
_SMALLER_SHAPES = {"onnx": "triangle", "tflite": "wedge"}

Point = tuple[float, float]


def scatter(
    rows: Sequence[Row], floor: float | None, ship: str | None, cost: Cost = SIZE
) -> str | None:
    """top-1 (with its 95 % interval) against the cost (log); None without two scored files.

    Without labels it is the agreement with the original's answers. The files of smaller nets,
    uncompressed, are joined to the untouched one of their format. `rows`: of one target, where the
    cost is a time. `floor` is the least top-1 that is allowed, `ship` the sha256 of the file
    advised.
    """
    files = _drawn(rows, ship, cost)
    if len(files) < 2:
        return None
    spans = [cost.spread(r) for r in files]
    x_of = Scale([*(_cost(r, cost) for r in files), *(v for span in spans for v in span)])
    intervals = [wilson(fidelity_of(r) or 0.0, r.samples or 1) for r in files]
    y_of = Heights([*(v for pair in intervals for v in pair), *([] if floor is None else [floor])])
    points = [(x_of(_cost(r, cost)), y_of(fidelity_of(r) or 0.0)) for r in files]
    what = "top-1" if any(r.top1 is not None for r in files) else "agreement"
    parts = [*y_of.axis(what), *x_of.axis(cost)]
    if floor is not None:
        parts.append(line(ROOM.left, y_of(floor), ROOM.right, y_of(floor), "floor"))
    parts += _joined(files, points)
    for row, (x, y), pair, span in zip(files, points, intervals, spans, strict=True):
        parts.append(line(x, y_of(pair[0]), x, y_of(pair[1]), "interval"))
        parts += [line(x_of(a), y, x_of(b), y, "interval") for a, b in pairwise(span)]
        parts.append(_mark(row, (x, y), ship, f"{row.path}: {_words(row, cost)}"))
    parts += _labels(files, points, ship)
    key, height = _key(files, floor is not None)
    description = "; ".join(f"{r.path} {_words(r, cost, ' ')}" for r in files)
    return figure(cost.title, description, (WIDTH, height), [*parts, *key])


def _drawn(rows: Sequence[Row], ship: str | None, cost: Cost) -> list[Row]:
    """Each file once, that advised last, so on top."""
    known = (r for r in rows if cost.of(r) is not None and fidelity_of(r) is not None)
    files = list({r.sha256: r for r in known if r.samples}.values())
    return sorted(files, key=lambda r: r.sha256 == ship)


def _cost(row: Row, cost: Cost) -> float:
    value = cost.of(row)
    assert value is not None
    return value


def _words(row: Row, cost: Cost, between: str = ", ") -> str:
    return f"{cost.text(_cost(row, cost))}{between}{share_text(fidelity_of(row) or 0.0)}"


def _mark(row: Row, at: Point, ship: str | None, words: str) -> str:
    shapes = _SMALLER_SHAPES if is_smaller(row) else _SHAPES
    style = " ship" if row.sha256 == ship else " smaller" if is_smaller(row) else ""
    return marker(shapes.get(row.format, "diamond"), *at, f"mark{style}", words)


def _joined(files: Sequence[Row], points: Sequence[Point]) -> list[str]:
    """A line for each format through its smaller nets and the untouched one."""
    parts: list[str] = []
    for form in sorted({r.format for r in files if is_smaller(r)}):
        corners = sorted(
            at
            for row, at in zip(files, points, strict=True)
            if row.format == form and (is_smaller(row) or row.method == UNTOUCHED)
        )
        if len(corners) > 1:
            parts.append(polyline(corners, "curve smaller", f"smaller nets, uncompressed, {form}"))
    return parts


def _labels(files: Sequence[Row], points: Sequence[Point], ship: str | None) -> list[str]:
    """File names beside their marks, with a thin leader where the name stands away."""
    names = _short_names(files)
    parts: list[str] = []
    spots = place_labels(points, names, FONT, ROOM)
    for row, name, (x, y), spot in zip(files, names, points, spots, strict=True):
        if spot is None:
            continue
        at, base, anchor = spot
        if abs(base - 0.35 * FONT - y) > 1.2 * FONT:
            reach = -4.0 if base < y else 9.0
            parts.append(line(x, y, at, base - reach, "leader"))
        style = " ship" if row.sha256 == ship else " smaller" if is_smaller(row) else ""
        parts.append(text(at, base, name, f"label{style}", anchor))
    return parts


def _short_names(files: Sequence[Row]) -> list[str]:
    """File names without the net's name, where all begin with it: it would say nothing."""
    names = [r.path for r in files]
    cut = common_start(names)
    return [shorten(name[cut:], 26) for name in names]


def _key(files: Sequence[Row], floor: bool) -> tuple[list[str], float]:
    """(what the marks and lines stand for, the height of the whole drawing).

    The least top-1's line is named here, since along it there may be no free place.
    """
    parts: list[str] = []
    x, y = ROOM.left, 317.0
    compressed = sorted({r.format for r in files if not is_smaller(r)})
    smaller = sorted({r.format for r in files if is_smaller(r)})
    entries = [(15.0, name) for name in compressed] + [(24.0, "least allowed")] * floor
    if smaller:
        entries.append(
            (18 + 14.0 * len(smaller), f"smaller net, uncompressed ({', '.join(smaller)})")
        )
    for i, (drawn, words) in enumerate(entries):
        width = drawn + len(words) * FONT * CHARACTER_WIDTH
        if x + width > WIDTH and x > ROOM.left:
            x, y = ROOM.left, y + 17
        if i < len(compressed):
            parts.append(marker(_SHAPES.get(words, "diamond"), x + 5, y, "mark", words))
        elif drawn == 24:
            parts.append(line(x, y, x + 18, y, "floor"))
        else:
            parts.append(polyline([(x, y), (x + drawn - 6, y)], "curve smaller"))
            for j, name in enumerate(smaller):
                shape = _SMALLER_SHAPES.get(name, "diamond")
                parts.append(marker(shape, x + 13 + 14 * j, y, "mark smaller", name))
        parts.append(text(x + drawn, y + 4, words, "note"))
        x += width + 14
    return parts, y + 13
