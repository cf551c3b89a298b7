"""Progress on standard error, for anything over a few seconds; silent when it is no terminal."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is being done now)."""

# What ends sooner shows nothing.
_DELAY_S = 1.0
_TICK_S = 0.5
# To the end of the line (ECMA-48, EL).
_CLEAR = "\x1b[K"
# Bars that are shown now: `busy` keeps quiet meanwhile.
_open_bars: set[object] = set()
# Held while something is written to the terminal, so that no two lines mix.
_writing = threading.Lock()


def bar(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar that names what is being done; it leaves no line behind."""
    with _shown(desc=what, total=total, iterable=items) as shown:
        yield from shown


@contextmanager
def counted_bar(what: str) -> Iterator[Progress]:
    """A bar for work that reports (done, total, what is being done) by itself."""
    with _shown(desc=what) as shown:

        def update(done: int, total: int, now: str) -> None:
            if shown.total is None:  # what an earlier run did says nothing of the speed
                shown.initial = shown.n = shown.last_print_n = done
            shown.total = total  # it may turn out that less is to be done
            shown.set_postfix_str(now, refresh=False)
            shown.update(done - shown.n)

        yield update


@contextmanager
def busy(what: str = "") -> Iterator[Callable[[str], None]]:
    """A line with the time that passes, for work that cannot say how far it is.

    Gives a function that names the next work, whose time begins then; '' shows nothing.
    """
    now = _Work(what)
    terminal = _terminal()
    if terminal is None:
        yield now.begin
        return
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(terminal, now, done), daemon=True)
    ticker.start()
    try:
        yield now.begin
    finally:
        done.set()
        ticker.join()


def say(text: str) -> None:
    """Print a line to standard output; on a terminal, where the line of `busy` stood."""
    terminal = _terminal()
    with _writing:
        if terminal is not None:
            terminal.write(f"\r{_CLEAR}")
            terminal.flush()
        print(text, flush=True)


class _Work:
    """What is being done, and since when; both change at once."""

    def __init__(self, what: str) -> None:
        self.begin(what)

    def begin(self, what: str) -> None:
        self._state = what, time.monotonic()

    def text(self) -> str:
        what, begun = self._state
        seconds = int(time.monotonic() - begun)
        return f"{what} {seconds // 60:02d}:{seconds % 60:02d}" if what else ""


def _tick(terminal: TextIO, now: _Work, done: threading.Event) -> None:
    """Write the time until `done`; a bar that comes meanwhile finds the line cleared."""
    written = False
    while not done.wait(_TICK_S):
        text = "" if _open_bars else now.text()
        if text or written:
            with _writing:
                terminal.write(f"\r{text[: _columns(terminal)]}{_CLEAR}")
                terminal.flush()
        written = bool(text)
    if written:
        with _writing:
            terminal.write(f"\r{_CLEAR}")
            terminal.flush()


def _columns(terminal: TextIO) -> int:
    """What fits on a line; the cursor takes one place."""
    return (os.get_terminal_size(terminal.fileno()).columns or 80) - 1


@contextmanager
def _shown(**settings: Any) -> Iterator[Any]:
    terminal = _terminal()
    settings |= {"leave": False, "dynamic_ncols": True, "delay": _DELAY_S, "miniters": 1}
    with tqdm(file=terminal, disable=terminal is None, **settings) as shown:
        _open_bars.add(shown)
        try:
            yield shown
        finally:
            _open_bars.discard(shown)


def _terminal() -> TextIO | None:
    return _standard_error() if sys.stderr is not None and sys.stderr.isatty() else None


@functools.cache
def _standard_error() -> TextIO:
    """A descriptor of our own: the TFLite converter is silenced by turning number 2 away."""
    return os.fdopen(os.dup(sys.stderr.fileno()), "w")
