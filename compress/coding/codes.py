"""A whole tensor's codes in the fewest bytes: contexts, frequencies that follow, rANS.

What Han, Mao and Dally ("Deep Compression", arXiv:1510.00149, section 4) leave to Huffman's code
is done below one bit a symbol's rounding, and below the order-0 entropy where neighbours in a
kernel, or rows and columns, tell something of a code (layouts.py). The layout is chosen by the
bytes that it takes.

A stream, whose shape and alphabet are the caller's to know, is empty for no code. Else:

    used codes    1 where all codes of the alphabet occur; else 0, then Elias's gamma codes of the
                  lengths of runs of codes that do not and do occur, in turn (the first, of codes
                  that do not, plus 1), until the alphabet is used up
    order         1 bit, wrapped: codes above zero come first, then those below, as in two's
                  complement; 0: all codes but code 0 rise with their values
    negatives     gamma(1 + used codes below zero)
    prior         zeros and decay (model.prior), 4 bits each
    strength      2 bits, s: 256 * 4**s (model.py)
    layout        2 bits: 0 Flat, 1 Blocks, 2 Planes
      Blocks      gamma(1 + mean), limits
      Planes      for each place: signed a's, signed b's (none for the first), signed bias;
                  limits of the shifts, limits of the spreads
    lanes         gamma(lanes), padding to a whole byte
    body          ans.py

limits: gamma(1 + number), then gamma(difference to the limit before, 0 for the first).
signed x: gamma(1 + 2 * |x|) for x >= 0, gamma(2 * |x|) below. One code alone has no bits after
`used codes`. The codes that occur, and code 0 in any case, are numbered anew: 0, those below zero
rising, those above zero rising. Those numbers are coded, in the layout's steps; the frequencies
are made anew at `model.updates`, counted over all steps. A reader refuses more than 2**19
contexts times codes, and more than 2**14 codes in a lane.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress.blockwise import look_up
from compress.coding import compiled
from compress.coding.ans import LANE_BYTES, SLOT_BITS, SLOTS, Decoder, encode
from compress.coding.code_header import Header, read_header, write_header
from compress.coding.code_plan import (
    COST_UNIT,
    COSTS,
    MAX_ALPHABET,
    MOST_ROWS,
    check_alphabet,
    plan,
)
from compress.coding.lanes import Symbols
from compress.coding.model import updates
from compress.errors import ContainerError

__all__ = [
    "MAX_ALPHABET",
    "CodeRates",
    "code_rates",
    "pack_codes",
    "packed_codes_bytes",
    "unpack_codes",
]

_BLOCK = 1 << 16  # codes at a time: the place of each in the tables takes 8 bytes


class CodeRates(NamedTuple):
    """What codes cost: bits[contexts[place], code] for a code at a place of the tensor."""

    contexts: NDArray[np.uint16]  # of the tensor's shape
    bits: NDArray[np.float32]  # (contexts, alphabet)


def pack_codes(
    codes: NDArray[np.integer[Any]], alphabet: int, codebook: NDArray[Any] | None = None
) -> bytes:
    """The stream of a tensor's codes, of any shape; equal arguments give equal bytes.

    alphabet: 1 to 4096, above all codes. codebook: (alphabet,), the value of each code, from
    which the codes below zero are known; without it they are guessed. Values that neither rise
    with the codes nor wrap around once do no harm but to the size. Raises RangeError for a code
    outside the alphabet.
    """
    if codes.size == 0:
        check_alphabet(alphabet)
        return b""
    planned = plan(codes, alphabet, codebook)
    header = planned.header
    head = write_header(header, alphabet)
    if header.used.size == 1:
        return head
    starts, frequencies = _frequencies(header, planned.codes)
    del planned  # two bytes a code, which `encode` needs for its words
    return head + encode(starts, frequencies, header.lanes)


def unpack_codes(data: bytes | memoryview, shape: tuple[int, ...], alphabet: int) -> Symbols:
    """The codes that pack_codes packed, of `shape`; uint8 for an alphabet up to 256, else uint16.

    Memory: the codes as uint16, and for Blocks and Planes about 60 bytes for each code of the
    largest step; nothing of it before the data are known to be able to hold the codes. One code
    alone takes no bits, so there the shape is the caller's to bound. Raises ContainerError for
    damaged data.
    """
    check_alphabet(alphabet)
    count = math.prod(shape)
    kind = np.uint8 if alphabet <= 256 else np.uint16
    if count == 0:
        if len(data):
            raise _damaged(f"{len(data)} bytes for no code")
        return np.zeros(shape, kind)
    header, offset = read_header(data, shape, alphabet)
    if header.used.size == 1:
        if offset != len(data):
            raise _damaged(f"{len(data) - offset} bytes where none are allowed")
        return np.full(shape, header.used[0], kind)
    body = memoryview(data)[offset:]
    _check_room(header, count, len(body))
    codes = np.zeros(header.layout.seen(shape), np.uint16)
    _read(Decoder(body, header.lanes), header, codes)
    if np.array_equal(header.used, np.arange(header.used.size)):
        return codes.astype(kind, copy=False).reshape(shape)
    return look_up(header.used.astype(kind), codes).reshape(shape)


def packed_codes_bytes(
    codes: NDArray[np.integer[Any]], alphabet: int, codebook: NDArray[Any] | None = None
) -> int:
    """Size of pack_codes without writing it, to about 0.2 %; of a large tensor, from a part."""
    if codes.size == 0:
        check_alphabet(alphabet)
        return 0
    planned = plan(codes, alphabet, codebook)
    if planned.header.used.size == 1:
        return len(write_header(planned.header, alphabet))
    return round(planned.bits / 8) + LANE_BYTES * planned.header.lanes


def code_rates(
    codes: NDArray[np.integer[Any]], alphabet: int, codebook: NDArray[Any] | None = None
) -> CodeRates:
    """The bits that each code would cost at each place, everything else staying as it is.

    From the counts of all codes, in the contexts that `codes` give; what the header and learning
    the counts take (a few percent of a small tensor) is not in them. A code that does not occur
    costs 17 bits, about what it takes to bring it in.
    """
    if codes.size == 0:
        check_alphabet(alphabet)
        return CodeRates(np.zeros(codes.shape, np.uint16), np.zeros((1, alphabet), np.float32))
    planned = plan(codes, alphabet, codebook)
    used, layout = planned.header.used, planned.header.layout
    contexts = np.zeros(layout.seen(codes.shape), np.uint16)
    known = np.zeros((1, 1))
    if used.size > 1:
        for where, found in layout.steps(planned.codes.reshape(contexts.shape)):
            contexts[where] = found
        model = planned.header.model()
        model.add(contexts.reshape(-1), planned.codes.reshape(-1))
        known = COSTS[model.tables().frequencies - 1] / COST_UNIT
    bits = np.full((len(known), alphabet), SLOT_BITS + 2.0, np.float32)
    bits[:, used] = known
    return CodeRates(contexts.reshape(codes.shape), bits)


def _frequencies(
    header: Header, codes: NDArray[np.uint16]
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """(first slots, frequencies) of renumbered codes in the layout's order, both (count,)."""
    starts = np.empty(codes.size, np.uint16)
    frequencies = np.empty(codes.size, np.uint16)
    model = header.model()
    tables, first = model.tables(), np.zeros(0, np.uint16)
    many = first
    block = max(_BLOCK, model.counts.size)
    stretches = updates(codes.size)
    done = until = 0
    seen = codes.reshape(header.layout.seen(codes.shape))
    for where, contexts in header.layout.steps(seen):
        part, asked = seen[where].reshape(-1), contexts.reshape(-1)
        low = 0
        while low < part.size:
            if done == until:
                tables, until = model.tables(), next(stretches)[1]
                first = tables.starts.reshape(-1).astype(np.uint16)
                many = tables.frequencies.reshape(-1).astype(np.uint16)
            high = min(part.size, low + until - done, low + block)
            now, into = slice(low, high), slice(done, done + high - low)
            at = tables.places(asked[now], part[now])
            first.take(at, out=starts[into], mode="clip")
            many.take(at, out=frequencies[into], mode="clip")
            model.add(asked[now], part[now])
            done, low = into.stop, high
    return starts, frequencies


def _check_room(header: Header, count: int, size: int) -> None:
    """That `size` bytes can hold `count` codes in so many lanes, and not in all too few."""
    # The likeliest code has at most 2**15 - (codes - 1) slots, so each takes this part of a bit.
    least_bits = count * (header.used.size - 1) // SLOTS
    if least_bits > 8 * size or count > header.lanes * MOST_ROWS:
        raise _damaged(f"{size} bytes in {header.lanes} lanes for {count} codes")


def _read(decoder: Decoder, header: Header, codes: NDArray[np.uint16]) -> None:
    """Fill `codes`, of the layout's two axes."""
    model = header.model()
    quick = compiled.worth_it(codes.size)
    stretches = updates(codes.size)
    done = until = 0
    tables = model.tables()
    for where, contexts in header.layout.steps(codes):
        part = codes[where]
        whole = part.flags.c_contiguous  # a layout of one step: filled where it is
        flat = part.reshape(-1) if whole else np.empty(part.size, np.uint16)
        asked = contexts.reshape(-1) if tables.contexts > 1 else contexts[0]
        low = 0
        while low < flat.size:
            if done == until:
                tables, until = model.tables(), next(stretches)[1]
            high = min(flat.size, low + until - done)
            if quick:
                counts = model.counts.reshape(tables.contexts, tables.alphabet)
                decoder.read_compiled(tables, asked[low:high], flat[low:high], counts)
            else:
                decoder.read(tables, asked[low:high], flat[low:high])
                model.add(asked[low:high], flat[low:high])
            done, low = done + high - low, high
        if not whole:
            codes[where] = flat.reshape(part.shape)
    decoder.finish()


def _damaged(what: str) -> ContainerError:
    return ContainerError(f"coded stream is damaged: {what}; get the file again")
