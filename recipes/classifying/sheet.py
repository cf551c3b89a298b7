"""The contact sheet: every picture on which a file changed its mind, as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.atomic import write_text
from recipes.classifying.changes import Change, Comparison
from recipes.classifying.sheet_style import CSS
from recipes.classifying.text import percent
from recipes.pictures.decoding import thumbnail
from recipes.pictures.sources import Pictures
from recipes.toolbox.model_files import ModelFile
from recipes.toolbox.progress import bar
from targets.artifact import file_sha256
from targets.formats.onnx_data import bytes_with_data
from targets.html import html_page
from targets.svg import escape, shorten
from targets.units import bytes_text, points_text, share_text, times_text

# Some 15 kB each: a page of 5 MB, which every browser opens at once.
MOST_SHOWN = 300
_SIDE = 360
_NAME = 44
_TAGS = {
    "lost": '<span class="tag warn">lost</span>',
    "won": '<span class="tag won">won</span>',
    "both wrong": '<span class="tag both">both wrong</span>',
}


@dataclass(frozen=True)
class Side:
    """One of the two files: its name on the page, bytes and SHA-256."""

    name: str
    size_bytes: int
    sha256: str

    @staticmethod
    def of(file: ModelFile) -> Side:
        return Side(file.path.name, bytes_with_data(file.path), file_sha256(file.path))


def write_sheet(
    path: Path,
    found: Comparison,
    files: tuple[ModelFile, ModelFile],
    pictures: Pictures,
    names: Sequence[str],
) -> None:
    """Write the sheet of (file, reference) to `path`, whole or not at all.

    `names`: the classes' names. At most 300 pictures are shown, those that lost most confidence.
    """
    shown = found.changes[:MOST_SHOWN]
    images = [_image(pictures, change) for change in bar(shown, "drawing the sheet")]
    write_text(path, sheet(found, (Side.of(files[0]), Side.of(files[1])), images, names))


def sheet(
    found: Comparison, sides: tuple[Side, Side], images: Sequence[str], names: Sequence[str]
) -> str:
    """The page; `images`: the <img> of the first changes, in their order. A pure function."""
    file, reference = sides
    cards = "".join(
        _card(change, image, (file.name, reference.name), names)
        for change, image in zip(found.changes, images, strict=False)
    )
    left_out = len(found.changes) - len(images)
    more = f" {left_out} more, which lost less, are not shown." if left_out > 0 else ""
    grid = (
        f"<h2>Changed answers</h2><p>The most confidence lost comes first: how much probability "
        f"the answer of {escape(reference.name)} has lost in {escape(file.name)}.{more}</p>"
        f'<ul class="sheet">{cards}</ul>'
    )
    body = [_header(found, file, reference), grid if cards else "", "</main>", _footer(sides)]
    return html_page(f"{file.name} against {reference.name} · edgepress", body, CSS, images=True)


def _header(found: Comparison, file: Side, reference: Side) -> str:
    low, high = found.changed_interval()
    changed, samples = len(found.changes), found.samples
    verdict = (
        f"{file.name} changed its mind on {changed} of {samples} "
        f"picture{'' if samples == 1 else 's'}"
        if changed
        else f"{file.name} gives the same answer on all of {samples} pictures"
    )
    points = [
        f"{share_text(found.changed_share)} changed; 95 % interval {share_text(low)} to "
        f"{share_text(high)}.",
        f"{bytes_text(file.size_bytes)} against {bytes_text(reference.size_bytes)}: "
        f"{times_text(reference.size_bytes / file.size_bytes)} smaller."
        if file.size_bytes < reference.size_bytes
        else f"{bytes_text(file.size_bytes)} against {bytes_text(reference.size_bytes)}.",
        *_drop(found),
    ]
    items = "".join(f"<li>{escape(point)}</li>" for point in points)
    return (
        f'<header><h1>Contact sheet</h1><p class="where">{escape(file.name)} against '
        f'{escape(reference.name)}</p></header>\n<main>\n<section class="verdict" '
        f'aria-label="Result"><p class="first">{escape(verdict)}.</p><ul>{items}</ul></section>'
        f"{_figures(found, file, reference)}"
    )


def _drop(found: Comparison) -> Iterator[str]:
    if not found.labelled:
        yield "The pictures have no labels: which of the two answers is right is not known."
        return
    low, high = found.drop_interval()
    sure = (
        "no difference is proven on so many pictures"
        if low <= 0 <= high
        else "the difference is more than chance"
    )
    yield (
        f"Top-1 {points_text(-found.drop)} points; 95 % interval {points_text(-high)} to "
        f"{points_text(-low)}: {sure}."
    )


def _figures(found: Comparison, file: Side, reference: Side) -> str:
    """Of labelled pictures: how many were lost and won, and how many are right in all."""
    if not found.labelled:
        return ""
    boxes = [
        (
            "Right",
            str(found.right_after),
            f"of {found.samples}; {reference.name}: {found.right_before}",
        ),
        ("Lost", str(found.lost), f"right in {reference.name} only"),
        ("Won", str(found.won), f"right in {file.name} only"),
        ("Changed, both wrong", str(found.count("both wrong")), "another wrong answer"),
    ]
    inner = "".join(
        f'<div><dt>{name}</dt><dd class="big">{value}</dd>'
        f'<dd class="than">{escape(note)}</dd></div>'
        for name, value, note in boxes
    )
    return f'<dl class="figures">{inner}</dl>'


def _card(change: Change, image: str, files: tuple[str, str], names: Sequence[str]) -> str:
    file, reference = files
    before, after = names[change.before], names[change.after]
    tie = ", a tie" if change.tie else ""
    kept = (
        f'<dd class="kept"><span>{escape(before)}{tie}</span>'
        f"<span>{percent(change.kept_share)}</span>"
        "</dd>"
    )
    foot = _TAGS.get(change.verdict or "", "")
    if change.label is not None:
        foot += f"<span>label: {escape(names[change.label])}</span>"
    return (
        f'<li><div class="frame">{image}</div><div class="said"><dl>'
        f"<div><dt>{escape(reference)}</dt>"
        f"{_answer(before, change.before_share, change.label == change.before)}</div>"
        f"<div><dt>{escape(file)}</dt>"
        f"{_answer(after, change.after_share, change.label == change.after)}{kept}</div></dl>"
        f'<div class="foot">{foot}<span class="file">{escape(_short(change.name))}</span></div>'
        f"</div></li>"
    )


def _answer(name: str, share: float, right: bool) -> str:
    kind = ' class="right"' if right else ""
    return (
        f"<dd{kind}><b>{escape(name)}</b><span>{percent(share)}</span>"
        f'<span class="track"><span class="fill" style="width:{100 * share:.1f}%"></span></span>'
        f"</dd>"
    )


def _short(name: str) -> str:
    """The file's own name; a picture in an array is called by its number there."""
    return shorten(name.replace("\\", "/").rpartition("/")[2], _NAME)


def _image(pictures: Pictures, change: Change) -> str:
    kind, data = thumbnail(pictures.pixels(change.index), _SIDE)
    tiny = ' class="tiny"' if kind == "image/png" else ""
    coded = base64.b64encode(data).decode()
    return f'<img{tiny} alt="{escape(_short(change.name))}" src="data:{kind};base64,{coded}">'


def _footer(sides: tuple[Side, Side]) -> str:
    hashes = "".join(
        f"<li><code>{escape(side.sha256)}</code> {escape(side.name)}</li>" for side in sides
    )
    return (
        "<footer>Made by <code>edgepress classify --against --sheet</code>. Probabilities are the "
        "softmax of what a file puts out, or its outputs where they are probabilities already."
        f'<details><summary>SHA-256 of the files</summary><ul class="gaps">{hashes}</ul></details>'
        "</footer>"
    )
