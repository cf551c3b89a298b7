"""Progress bars on standard error, for anything over a few seconds; silent when not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar that names what is being done; it leaves no line behind."""
    quiet = not sys.stderr.isatty()
    return iter(
        tqdm(items, desc=what, total=total, leave=False, disable=quiet, dynamic_ncols=True, delay=1)
    )


@contextmanager
def counted_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar for work that reports (done, total, what is being done) by itself."""
    with tqdm(desc=what, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True) as shown:

        def update(done: int, total: int, now: str) -> None:
            shown.total = total
            shown.set_postfix_str(now, refresh=False)
            shown.update(done - shown.n)

        yield update
