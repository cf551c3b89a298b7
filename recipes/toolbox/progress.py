"""Progress bars on standard error, for anything over a few seconds; silent when not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar that names what is being done; it leaves no line behind."""
    quiet = not sys.stderr.isatty()
    return iter(
        tqdm(items, desc=what, total=total, leave=False, disable=quiet, dynamic_ncols=True, delay=1)
    )
