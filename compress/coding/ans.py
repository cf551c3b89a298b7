"""Range asymmetric numeral systems (rANS): symbols in fractions of a bit, in interleaved lanes.

Duda, "Asymmetric numeral systems" (arXiv:1311.2540). A lane is a number x, 2**16 <= x < 2**32.
A symbol with frequency f of 2**15, which owns the slots start ... start + f - 1, is read from the
lane's slot, x mod 2**15, and leaves

    x = f * (x >> 15) + (x mod 2**15) - start,  then, if x < 2**16:  x = x << 16 | next word

Symbol n is in lane n mod lanes, and all lanes read their 16-bit words, in the order of the
symbols, from one row of them. So arrays decode all lanes at once, and a compiled loop one symbol
after the other. A body is the lanes' first numbers, 32 bits each, then the words, little-endian.
After the last symbol every lane is 2**16 and no word is left: that is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding import compiled
from compress.errors import ContainerError

SLOT_BITS = 15
SLOTS = 1 << SLOT_BITS
_LEAST = 1 << 16
_STATE_BYTES = 4
# What a lane takes on average: its first number holds 8 bits of the symbols.
LANE_BYTES = 3
# From here on one look-up for each symbol pays for making a table of all slots.
_WORTH_A_TABLE = 8192
_BUCKET_BITS = 7


class Tables:
    """The frequencies of the symbols in each context, made ready for coding.

    frequencies: (contexts, alphabet), integers of 1 and more, each row's sum 2**15.
    """

    def __init__(self, frequencies: NDArray[np.int64]) -> None:
        self.contexts, self.alphabet = frequencies.shape
        self.frequencies = frequencies
        self.ends = np.cumsum(frequencies, axis=1)
        self.starts = self.ends - frequencies

    def places(
        self, contexts: NDArray[np.uint16], symbols: NDArray[np.integer[Any]]
    ) -> NDArray[np.int64]:
        """Where each symbol in its context is in the flattened frequencies and starts."""
        if self.contexts == 1:
            return symbols.astype(np.int64)
        return contexts.astype(np.int64) * self.alphabet + symbols

    def found(
        self, slots: NDArray[np.int64], contexts: NDArray[np.uint16], table: NDArray[np.uint16]
    ) -> NDArray[np.int64]:
        """The symbol that owns each slot in its context; `table` is slot_table(), or empty."""
        key = contexts.astype(np.int64) << SLOT_BITS | slots
        if table.size:
            return table[key].astype(np.int64)
        # The rows' ends, one row above the other, ascend.
        offset = np.arange(self.contexts)[:, None] << SLOT_BITS
        place = np.searchsorted((self.ends + offset).ravel(), key, side="right")
        return place - contexts.astype(np.int64) * self.alphabet

    def slot_table(self) -> NDArray[np.uint16]:
        """The symbol of every slot, row after row."""
        symbols = np.tile(np.arange(self.alphabet, dtype=np.uint16), self.contexts)
        return np.repeat(symbols, self.frequencies.reshape(-1))

    def buckets(self, bits: int) -> NDArray[np.uint16]:
        """The symbol of the first of each 2**bits slots, row after row."""
        edges = np.arange(0, SLOTS, 1 << bits, dtype=np.int64)
        slots = np.tile(edges, self.contexts)
        contexts = np.repeat(np.arange(self.contexts, dtype=np.uint16), edges.size)
        return self.found(slots, contexts, np.zeros(0, np.uint16)).astype(np.uint16)


def encode(starts: NDArray[np.uint16], frequencies: NDArray[np.uint16], lanes: int) -> bytes:
    """The body of the symbols whose first slots and frequencies (1 to 2**15) these are, (count,).

    lanes: 1 to count.
    """
    if compiled.worth_it(starts.size):
        words = np.empty(starts.size, np.uint16)
        states = np.full(lanes, _LEAST, np.uint64)
        first = compiled.kernel("ans_encode")(starts, frequencies, states, words)
        return states.astype("<u4").tobytes() + words[first:].astype("<u2").tobytes()
    return _encode_rows(starts, frequencies, lanes)


def _encode_rows(starts: NDArray[np.uint16], frequencies: NDArray[np.uint16], lanes: int) -> bytes:
    """The lanes run backwards, a row of one symbol from each at a time."""
    states = np.full(lanes, _LEAST, np.int64)
    rows: list[NDArray[np.uint16]] = []
    for low in range((starts.size - 1) // lanes * lanes, -1, -lanes):
        start = starts[low : low + lanes].astype(np.int64)
        frequency = frequencies[low : low + lanes].astype(np.int64)
        state = states[: start.size]
        full = state >= frequency << (32 - SLOT_BITS)
        rows.append((state[full] & 0xFFFF).astype(np.uint16))
        state[full] >>= 16
        quotient, rest = np.divmod(state, frequency)
        states[: start.size] = (quotient << SLOT_BITS) + rest + start
    words = np.concatenate(rows[::-1]).astype("<u2")
    return states.astype("<u4").tobytes() + words.tobytes()


class Decoder:
    """Reads the symbols of a body in the order in which they were given to `encode`."""

    def __init__(self, body: bytes | memoryview, lanes: int) -> None:
        """Raises ContainerError for a body too short for its lanes, or of half a word."""
        states = _STATE_BYTES * lanes
        if len(body) < states or (len(body) - states) % 2:
            raise _damaged(f"{len(body)} bytes are no {lanes} lanes and whole words")
        self._states = np.frombuffer(body[:states], "<u4").astype(np.uint64)
        if np.any(self._states < _LEAST):
            raise _damaged("a lane starts below 65536")
        self._words = np.frombuffer(body[states:], "<u2").astype(np.uint16)
        self._place = 0
        self._lane = 0

    def read_compiled(
        self,
        tables: Tables,
        contexts: NDArray[np.uint16],
        symbols: NDArray[np.uint16],
        counts: NDArray[np.int64],
    ) -> None:
        """`read` by the compiled loop. counts: (contexts, alphabet), counted on as it goes."""
        # Small enough for the nearest cache, and with few contexts hardly ever a step too early.
        bucket_bits = 3 if tables.contexts == 1 else _BUCKET_BITS
        table = tables.buckets(bucket_bits)
        packed = (tables.frequencies | tables.starts << 16).astype(np.uint32)
        at = np.array([self._place, self._lane], np.int64)
        done = compiled.kernel("ans_decode")(
            self._words, self._states, at, contexts, table, packed, symbols, counts
        )
        self._place, self._lane = int(at[0]), int(at[1])
        if not done:
            raise _damaged("words end before the symbols do")

    def read(
        self, tables: Tables, contexts: NDArray[np.uint16], symbols: NDArray[np.uint16]
    ) -> None:
        """Fill `symbols`, (count,), the next ones, each in its context, (count,).

        Raises ContainerError where words end.
        """
        table = np.zeros(0, np.uint16)
        if symbols.size >= max(_WORTH_A_TABLE, tables.contexts * SLOTS // 8):
            table = tables.slot_table()
        low, lanes = 0, self._states.size
        while low < symbols.size:
            high = min(symbols.size, low + lanes - self._lane)
            symbols[low:high] = self._row(tables, contexts[low:high], table)
            low = high

    def _row(
        self, tables: Tables, contexts: NDArray[np.uint16], table: NDArray[np.uint16]
    ) -> NDArray[np.int64]:
        """One symbol of each of the next len(contexts) lanes."""
        lanes = slice(self._lane, self._lane + contexts.size)
        states = self._states[lanes].view(np.int64)
        slots = states & (SLOTS - 1)
        symbols = tables.found(slots, contexts, table)
        frequency = tables.frequencies[contexts, symbols]
        states = frequency * (states >> SLOT_BITS) + slots - tables.starts[contexts, symbols]
        short = np.flatnonzero(states < _LEAST)
        words = self._words[self._place : self._place + short.size]
        if words.size < short.size:
            raise _damaged("words end before the symbols do")
        states[short] = states[short] << 16 | words
        self._states[lanes] = states.view(np.uint64)
        self._place += short.size
        self._lane = (self._lane + contexts.size) % self._states.size
        return symbols

    def finish(self) -> None:
        """Raises ContainerError unless every lane and the words end as `encode` began them."""
        if self._place != self._words.size or np.any(self._states != _LEAST):
            raise _damaged("lanes do not end where the symbols do")


def _damaged(what: str) -> ContainerError:
    return ContainerError(f"coded stream is damaged: {what}; get the file again")
