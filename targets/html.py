"""The frame of every page that edgepress writes: self-contained, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence

from targets.svg import escape

# Refuses scripts and every fetch, whatever a hostile file might smuggle in.
_POLICY = (
    "default-src 'none'; {images}style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def html_page(title: str, body: Sequence[str], css: str, *, images: bool = False) -> str:
    """A whole page. `title` is escaped here; `body` are parts of finished HTML, empty ones dropped.

    `images`: pictures that stand in the page as data may be shown.
    """
    policy = _POLICY.format(images="img-src data:; " if images else "")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{css}</style>\n</head>\n<body>\n" + "\n".join(filter(None, body)) + "\n</body>\n"
        "</html>\n"
    )
