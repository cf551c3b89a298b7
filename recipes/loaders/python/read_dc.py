"""Reads a Deep Compression container (.dc, version 2) with Python and numpy alone, nothing else.

One file to paste into an app, or to port: every layout that the format has is in it, in the order
in which a reader meets it. `read_dc` gives the weights by name, as PyTorch's state_dict has them,
and what the file says of its net. Weights come one at a time, so the memory is that of the weights
read so far and of the one at work. Bad files raise ContainerError, one line; nothing is run.

    python read_dc.py net.dc net.npz

    bytes 0-3   "edc" and the version, 2
    bytes 4-7   CRC-32 of all that follows, little-endian
    bytes 8-15  the first 8 bytes of the net's digest
    varint, then so many bytes: the head, deflated (below)
    varint, then so many bytes: the graph, deflated: an .onnx without its weights; passed over here
    the rest    the tensors, in the head's order

A varint has 7 bits a byte, the lowest first, the high bit set in all bytes but the last. A signed
one counts 0, -1, 1, -2, 2, ...
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

MOST_WEIGHTS = 1 << 28
_TYPES = ("<f4", "<i8", "<f2", "<f8", "<i4")
# The preset dictionary of the head's deflated stream.
_DICTIONARY = (
    b"stage3.features.0.body.blocks.10.conv_dw.conv_pw.downsample.0.shortcut.running_mean\n"
    b"running_varnum_batches_trackedbranch1.0.branch2.expand1x1expand3x3.squeeze.layer1.0."
    b"conv1.bias\nlayer1.0.conv1.weight\nlayer1.0.conv2.bias\nlayer1.0.conv2.weight\n"
    b"layer2.features.3.squeeze.bias\nfeatures.3.squeeze.weight\nfeatures.4.expand1x1.bias\n"
    b"features.4.expand1x1.weight\nfeatures.4.expand3x3.bias\nfeatures.4.expand3x3.weight\n"
    b"features.1.conv.0.0.bias\nfeatures.1.conv.0.0.weight\nfeatures.1.conv.1.bias\n"
    b"features.1.conv.1.weight\nclassifier.1.bias\nclassifier.1.weight\n"
    b"conv1.bias\nconv1.weight\nfc.bias\nfc.weight\nlinear.bias\nlinear.weight\n"
    b"conv1.bias\nconv1.weight\nconv2.bias\nconv2.weight\nfc1.bias\nfc1.weight\n"
    b"fc2.bias\nfc2.weight\nfc3.bias\nfc3.weightfeatures.0/relu#0/add#0/cat#0/linear#0/conv2d"
    b'#0/hardtanh#0/max_pool2d#0/input#0{"kind":"Factorized","layer":"","rank":{"kind":"Fo'
    b'ldedBatchNorm","layer":"conv1","norm":"bn1"}QuantizeInt8(observer=\'mse\', include=(\'*'
    b"',), exclude=())FactorizeSVD(rank=, energy=0.9PruneGradual(PruneIterative(lambda_=Ra"
    b"teDistortion(budget=scope='global', 'sensitivity'PruneMagnitude(sparsity=(('conv1', "
    b"0.34), ('conv2', 0.88), ('fc1', 0.92), ('fc2', 0.81)), include=('*',), exclude=(), s"
    b"cope='layer')FineTune(epochs=5, learning_rate=0.001)ShareWeights(bits=(('conv*', 8),"
    b" ('fc*', 5), ('*', 6)), method='optimal', include=('*',), exclude=())FoldBatchNorm()"
    b'["airplane","automobile","bird","cat","deer","dog","frog","horse","ship","truck"]{"a'
    b'ctivations":{},"edits":[],"float_nodes":[],"history":[""],"spec":{"builder":"compres'
    b"s.importing.templates:importedcompress.models.squeezenet:squeezenet1_1compress.model"
    b"s.mobilenet_v2:mobilenet_v2compress.models.shufflenet_v2:shufflenet_v2compress.model"
    b's.resnet_cifar:resnet20compress.models.lenet:lenet300compress.models.lenet:lenet5","'
    b'classes":10,"inputs":[{"dtype":"float32","layout":"NCHW","name":"input","shape":[1,3'
    b',224,224]}],"kwargs":{"classes":1000,"small":true},"preprocess":{"antialias":true,"c'
    b'hannel_order":"RGB","crop":224,"interpolation":"bilinear","mean":[0.485,0.456,0.406]'
    b',"resize":256,"scale":0.00392156862745098,"std":[0.229,0.224,0.225]}},"ties":[],"ver'
    b'sion":1}"inputs":[{"dtype":"float32","layout":"NCHW","name":"input","shape":[1,3,32,'
    b'32]}],"inputs":[{"dtype":"float32","layout":"NCHW","name":"input","shape":[1,1,28,28'
    b']}],"kwargs":{},"preprocess":{"antialias":true,"channel_order":"GREY","crop":null,"i'
    b'nterpolation":"bilinear","mean":[0.1307],"resize":null,"scale":0.00392156862745098,"'
    b'std":[0.3081]}},"ties":[],"version":1}'
)


class ContainerError(ValueError):
    """The file is damaged, cut off, or of another version."""


def read_dc(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(weights by name, what the file says of its net)."""
    data = memoryview(Path(path).read_bytes())
    try:
        head, payload = _parts(data)
        about, names, columns = _head(head)
        return dict(_tensors(names, columns, payload)), about
    except (ValueError, IndexError, OverflowError, RecursionError, zlib.error) as error:
        raise ContainerError(f"{path}: {' '.join(str(error).split())[:200]}") from error


# -- the file ---------------------------------------------------------------------------------


class _Bytes:
    """Bytes, taken from the front."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.left = memoryview(data)

    def take(self, count: int) -> memoryview:
        if count > len(self.left):
            raise ContainerError(f"cut off: {count} bytes needed, {len(self.left)} left")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def varint(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ContainerError("a number of more than 63 bits")

    def signed(self) -> int:
        value = self.varint()
        return -(value + 1) // 2 if value & 1 else value // 2

    def end(self) -> None:
        if len(self.left):
            raise ContainerError(f"{len(self.left)} bytes too many")


class _Bits:
    """Bits, the highest of a byte first."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.data[self.place >> 3] >> (7 - (self.place & 7)) & 1
            self.place += 1
        return value

    def gamma(self) -> int:
        """Elias's code of 1 and more: a zero for each bit after the first, then the bits."""
        zeros = 0
        while not self.take(1):
            zeros = _bounded(zeros + 1, 48)
        return 1 << zeros | self.take(zeros)

    def signed(self) -> int:
        """Gamma of 1, 2, 3, 4, 5, ... for 0, -1, 1, -2, 2, ..."""
        value = self.gamma()
        return value // 2 if value & 1 else -(value // 2)

    def rest(self) -> _Bytes:
        """From the next whole byte on."""
        return _Bytes(self.data[(self.place + 7) // 8 :])


def _parts(data: memoryview) -> tuple[memoryview, memoryview]:
    if len(data) < 18 or bytes(data[:3]) != b"edc" or data[3] != 2:
        raise ContainerError("no Deep Compression container of version 2")
    if zlib.crc32(data[8:]) != int.from_bytes(data[4:8], "little"):
        raise ContainerError("damaged: its checksum differs")
    rest = _Bytes(data[16:])
    head = rest.take(rest.varint())
    rest.take(rest.varint())  # the graph
    return head, rest.left


def _head(packed: memoryview) -> tuple[dict[str, Any], list[str], _Bytes]:
    """(description, names, the index's columns)."""
    inflater = zlib.decompressobj(-15, zdict=_DICTIONARY)  # raw deflate
    whole = _Bytes(inflater.decompress(packed, 8 << 20))
    if not inflater.eof:
        raise ContainerError("a head of more than 8 MiB")
    about = json.loads(bytes(whole.take(whole.varint())))
    names = bytes(whole.take(whole.varint())).decode()
    if not isinstance(about, dict):
        raise ContainerError("a description that is no object")
    return about, names.split("\n") if names else [], whole


def _tensors(
    names: list[str], columns: _Bytes, payload: memoryview
) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor in turn. The columns: forms, axes (a byte each); shapes, lengths (varints)."""
    forms, axes = columns.take(len(names)), columns.take(len(names))
    shapes = [tuple(columns.varint() for _ in range(count)) for count in axes]
    lengths = [columns.varint() for _ in names]
    columns.end()
    if sum(map(math.prod, shapes)) > MOST_WEIGHTS or max(axes, default=0) > 8:
        raise ContainerError(f"more than {MOST_WEIGHTS} weights, or than 8 axes")
    rest = _Bytes(payload)
    for name, form, shape, length in zip(names, forms, shapes, lengths, strict=True):
        yield name, _tensor(form, shape, _Bytes(rest.take(length)))
    rest.end()


# -- one tensor -------------------------------------------------------------------------------


def _tensor(form: int, shape: tuple[int, ...], data: _Bytes) -> np.ndarray:
    """form 0 to 4: an array of one of _TYPES. 8: weights of which some are pruned. 64 and more:
    a codebook and codes; + 1: the codebook is int8, + 2: more than 256 codes, + 4 * (axis + 1):
    one scale for each channel of that axis."""
    size = math.prod(shape)
    if form < len(_TYPES):
        values = _array(data, np.dtype(_TYPES[form]), size)
        data.end()
        return values.reshape(shape)
    if form == 8:
        kept = _array(data, np.dtype("<f4"), _bounded(data.varint(), size))
        weights = np.zeros(size, np.float32)
        mask = _codes(data, shape, 2).astype(bool)
        if np.count_nonzero(mask) != kept.size:
            raise ContainerError(f"{kept.size} weights for {np.count_nonzero(mask)} places")
        weights[mask] = kept
        return weights.reshape(shape)
    axis, flags = divmod(form - 64, 4)
    if not 0 <= axis <= len(shape):
        raise ContainerError(f"a tensor of form {form}")
    entries = _bounded(data.varint(), 1 << 16)
    codebook = _array(data, np.dtype("<i1" if flags & 1 else "<f4"), entries).astype(np.float32)
    scale = _array(data, np.dtype("<f4"), shape[axis - 1] if axis else 1)
    weights = _look_up(codebook, _codes(data, shape, entries)).reshape(shape)
    if axis:
        scale = scale.reshape([-1 if i == axis - 1 else 1 for i in range(len(shape))])
    with np.errstate(over="ignore", invalid="ignore"):
        weights *= scale
    weights += np.float32(0)  # zero times a negative scale is 0.0, not -0.0
    return weights


def _look_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """table[codes], which takes 8 bytes a code for its places: not for all at once."""
    found = np.empty(codes.size, table.dtype)
    for start in range(0, codes.size, 1 << 16):
        found[start : start + (1 << 16)] = table[codes[start : start + (1 << 16)]]
    return found


def _bounded(count: int, most: int) -> int:
    if count > most:
        raise ContainerError(f"{count} values where {most} are the most")
    return count


# -- small arrays: codebooks, scales, biases --------------------------------------------------


def _array(data: _Bytes, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """`count` values; the first byte says how they are written."""
    way = data.take(1)[0]
    if way < 2:  # zeros, ones
        return np.full(count, way, dtype)
    if way == 2:  # one value for all
        return np.repeat(np.frombuffer(data.take(dtype.itemsize), dtype), count)
    if way == 3:  # as they are
        return np.frombuffer(data.take(count * dtype.itemsize), dtype).copy()
    if way == 4:  # integers
        return _integers(data, count).astype(dtype)
    if way == 5:  # integers as steps from one to the next
        return _steps(data, count).astype(dtype)
    if way in (6, 7) and dtype == np.float32:  # multiples of a step: integers, or steps of them
        step = float(np.frombuffer(data.take(4), "<f4")[0])
        times = _integers(data, count) if way == 6 else _steps(data, count)
        with np.errstate(all="ignore"):
            return (step * times.astype(np.float64) + 0.0).astype(np.float32)
    if way == 8 and dtype == np.float32:
        return _split(data, count)
    raise ContainerError(f"values written in way {way}")


def _integers(data: _Bytes, count: int) -> np.ndarray:
    """The least, the spread, and Huffman words of what lies above the least."""
    least, spread = data.signed(), _bounded(data.varint(), (1 << 16) - 1)
    if spread == 0:
        return np.full(count, least, np.int64)
    length = data.varint()
    if length == 0:  # as they are, in as many bits as the spread has
        return _uints(data, spread.bit_length(), count).astype(np.int64) + least
    return _huffman(data.take(length), count, spread + 1, _in_lanes).astype(np.int64) + least


def _steps(data: _Bytes, count: int) -> np.ndarray:
    first = data.signed()
    return np.cumsum(np.append(first, _integers(data, max(count - 1, 0))))[:count]


def _split(data: _Bytes, count: int) -> np.ndarray:
    """float32 as exponents (Huffman words), signs and mantissas (as they are, but for the bits at
    the end that are zero in all)."""
    signs, spare = divmod(data.take(1)[0], 32)  # signs 0: all plus, 1: all minus, 2: a bit each
    least, spread = data.take(2)
    if signs > 2 or spare > 23 or least + spread > 255:
        raise ContainerError("floats of a wrong form")
    words = data.take(data.varint()) if spread else b""
    width = 23 - spare
    tails = _uints(data, width + (signs == 2), count)
    above = _huffman(words, count, spread + 1, _in_lanes) if spread else np.zeros(count, np.uint8)
    for low in range(0, count, 1 << 16):  # in place: a net may be one such array
        part = tails[low : low + (1 << 16)]
        bits = above[low : low + (1 << 16)].astype(np.uint32) + np.uint32(least)
        minus = part >> width if signs == 2 else np.uint32(signs)
        part &= (1 << width) - 1
        part <<= spare
        part |= minus << 31 | bits << 23
    return tails.view(np.float32)


def _uints(data: bytes | _Bytes | memoryview, width: int, count: int) -> np.ndarray:
    """Unsigned integers of `width` bits, the highest first, padded to a byte."""
    source = data if isinstance(data, _Bytes) else _Bytes(data)
    raw = np.frombuffer(source.take((count * width + 7) // 8), np.uint8)
    values = np.zeros(count, np.uint32)
    for low in range(0, count, 1 << 16):  # a bit takes a byte here: not all at once
        part = values[low : low + (1 << 16)]
        first = low // 8 * width
        packed = raw[first : first + (part.size * width + 7) // 8]
        bits = np.unpackbits(packed, count=part.size * width).reshape(part.size, width)
        for column in range(width):
            part <<= 1
            part |= bits[:, column]
    return values


# -- codes ------------------------------------------------------------------------------------


def _codes(data: _Bytes, shape: tuple[int, ...], alphabet: int) -> np.ndarray:
    """The codes of all weights, flat, each below `alphabet`; they end with the tensor."""
    coding, size = data.take(1)[0], math.prod(shape)
    if coding in (0, 3):
        return _gaps(data, size, alphabet, _in_lanes if coding == 0 else _in_planes)
    if coding in (1, 4):  # one Huffman word a weight
        return _huffman(data.left, size, alphabet, _in_lanes if coding == 1 else _in_planes)
    if coding == 2:
        return _context(data, shape, alphabet)
    raise ContainerError(f"weights coded in way {coding}")


def _gaps(data: _Bytes, size: int, alphabet: int, words: Words) -> np.ndarray:
    """Zeros before each non-zero code, and the codes; a gap too long has filler zeros in it."""
    width, entries = _bounded(data.take(1)[0], 8), _bounded(data.varint(), size)
    gaps = _huffman(data.take(data.varint()), entries, 1 << width, words)
    values = _huffman(data.left, entries, alphabet, words)
    if int(gaps.sum(dtype=np.int64)) + entries > size:
        raise ContainerError(f"a weight beyond the {size} that there are")
    codes = np.zeros(size, values.dtype)
    place = -1
    for start in range(0, entries, 1 << 18):  # a place takes 8 bytes: not all at once
        places = place + np.cumsum(gaps[start : start + (1 << 18)] + np.int64(1))
        codes[places] = values[start : start + (1 << 18)]
        place = int(places[-1])
    return codes


# -- canonical Huffman words, at most 15 bits, in interleaved lanes or in planes --------------

# Reads so many symbols from words; given the symbols that have one and its bits, words rising.
Words = Callable[[_Bytes, int, np.ndarray, np.ndarray], np.ndarray]


def _huffman(data: bytes | memoryview, count: int, alphabet: int, read: Words) -> np.ndarray:
    """`count` symbols below `alphabet`: the lengths of their words, then the words."""
    kind = np.uint8 if alphabet <= 256 else np.uint16
    if count == 0:
        _Bytes(data).end()
        return np.zeros(0, kind)
    lengths, words = _word_lengths(memoryview(data), alphabet)
    used = np.flatnonzero(lengths)
    if used.size == 1:  # one symbol alone takes no bits
        words.end()
        return np.full(count, used[0], kind)
    if count * int(lengths[used].min()) > 8 * len(words.left):
        raise ContainerError(f"cut off: {count} words in {len(words.left)} bytes")
    # Words of a length are consecutive numbers in the order of the symbols, shorter words first.
    order = np.argsort(lengths, kind="stable")[alphabet - used.size :]
    return read(words, count, order.astype(kind), lengths[order].astype(np.int64))


def _word_lengths(data: memoryview, alphabet: int) -> tuple[np.ndarray, _Bytes]:
    """(bits of each symbol's word, what follows). 1, symbol: that one alone. 0, then until the
    code is complete: 0: as long as the word before; 100 or 101, gamma: so much longer or shorter;
    11, gamma: so many symbols without a word."""
    bits = _Bits(data)
    lengths = np.zeros(alphabet, np.uint8)
    room = (alphabet - 1).bit_length()
    if bits.take(1):
        lengths[bits.take(room)] = 1
        return lengths, bits.rest()
    length, symbol, share = min(max(room, 1), 15), 0, 0
    while share < 1 << 15:
        if bits.take(1):
            if bits.take(1):
                symbol += bits.gamma()
                continue
            length += -bits.gamma() if bits.take(1) else bits.gamma()
            if not 1 <= length <= 15:
                raise ContainerError(f"a word of {length} bits")
        lengths[symbol] = length
        symbol, share = symbol + 1, share + (1 << 15 >> length)
    if share > 1 << 15:
        raise ContainerError("more words than there is room for")
    return lengths, bits.rest()


def _in_lanes(words: _Bytes, count: int, order: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Lane j of n has the words of symbols j, j + n, j + 2 n, ...; n = ceil(count / 4096). All
    lanes are one bit stream, one after the other; with more than one, the bits that each takes
    come first: the least of them, a byte b, then what the others have more, in b bits each."""
    lanes = -(-count // 4096)
    starts = np.zeros(lanes, np.int64)
    if lanes > 1:
        least, width = _bounded(words.varint(), 1 << 20), _bounded(words.take(1)[0], 16)
        starts[1:] = np.cumsum(_uints(words, width, lanes - 1).astype(np.int64) + least)
    if starts[-1] > 8 * len(words.left):
        raise ContainerError("lanes beyond the end")
    # A table of all bit patterns of the longest word is made of one stretch for each symbol.
    longest = int(widths[-1])
    symbol_of = np.repeat(order, 1 << (longest - widths))
    width_of = np.repeat(widths, 1 << (longest - widths))
    slack = (count // lanes + 1) * longest // 8 + 8
    raw = np.concatenate([np.frombuffer(words.left, np.uint8), np.zeros(slack, np.uint8)])
    symbols = np.empty(count, symbol_of.dtype)
    at = starts.copy()
    for low in range(0, count, lanes):
        now = at[: count - low]  # the last row may be shorter
        byte = now >> 3
        window = raw[byte].astype(np.int64) << 16 | raw[byte + 1].astype(np.int64) << 8
        window |= raw[byte + 2]
        word = window >> (24 - longest - (now & 7)) & ((1 << longest) - 1)
        symbols[low : low + now.size] = symbol_of[word]
        now += width_of[word]
    if not np.array_equal(at[:-1], starts[1:]) or (at[-1] + 7) // 8 != len(words.left):
        raise ContainerError("words do not end where they should")
    return symbols


def _in_planes(words: _Bytes, count: int, order: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Blocks of 65536 symbols. Of each the first bits of all words, as many as the shortest have;
    then, of the words that are longer, the bits up to the next length; and so on, all in one bit
    stream. Words that end at a length are the numbers below a limit; the rest goes on above it."""
    raw = np.frombuffer(words.left, np.uint8)
    symbols = np.empty(count, order.dtype)
    at = 0
    for low in range(0, count, 1 << 16):
        places = np.arange(low, min(low + (1 << 16), count))
        word = np.zeros(places.size, np.uint16)
        before = 0
        for width in np.unique(widths):
            size = int(width) - before
            part = raw[at >> 3 : (at + places.size * size + 7) >> 3]
            bits = np.unpackbits(part)[at & 7 :][: places.size * size].reshape(-1, size)
            if len(bits) < places.size:
                raise ContainerError("cut off: words end before the symbols do")
            for column in range(size):
                word = word << np.uint16(1) | bits[:, column]
            ends = order[widths == width]
            now = word < ends.size
            symbols[places[now]] = ends[word[now]]
            places, word = places[~now], word[~now] - np.uint16(ends.size)
            at, before = at + len(bits) * size, int(width)
    if (at + 7) // 8 != raw.size:
        raise ContainerError("words do not end where they should")
    return symbols


# -- coding 2: rANS (arXiv:1311.2540); frequencies follow the codes seen and their neighbours ---
#
# All arithmetic is in integers of 64 bits, // rounds down. A signed rank is a code's place among
# those above zero, 1 and up, or below, -1 and down; a magnitude is its absolute value.

Step = tuple[tuple[slice, slice], np.ndarray]


def _context(data: _Bytes, shape: tuple[int, ...], alphabet: int) -> np.ndarray:
    """Header, lanes' states (4 bytes each), words (2 bytes each). Codes come in steps, each code
    in a context that earlier steps give; the frequencies are made anew before symbols 0, 32, 64,
    ... and then whenever a quarter more has come."""
    count = math.prod(shape)
    if count == 0:
        data.end()
        return np.zeros(0, np.uint8)
    bits = _Bits(data.left)
    occurring = _occurring(bits, _bounded(alphabet, 4096))
    kind = np.uint8 if alphabet <= 256 else np.uint16
    if np.count_nonzero(occurring) == 1:
        bits.rest().end()
        return np.full(count, np.flatnonzero(occurring)[0], kind)
    wrapped, negatives = bits.take(1), bits.gamma() - 1
    used = np.flatnonzero(occurring[1:]) + 1
    # Codes are numbered: 0, those below zero rising, those above zero rising.
    used = np.append(0, np.roll(used, _bounded(negatives, used.size)) if wrapped else used)
    ranks = np.arange(used.size) - negatives
    ranks -= ranks <= 0
    ranks[0] = 0
    prior = _prior(ranks, bits.take(4), bits.take(4))
    strength = 256 << 2 * bits.take(2)
    grid, seen, steps = _layout(bits, shape, ranks)
    lanes = _bounded(bits.gamma(), count)
    rans = _Rans(bits.rest(), lanes)
    if count > lanes << 14:
        raise ContainerError(f"{lanes} lanes for {count} codes")
    codes = np.zeros(seen, np.uint16)
    counts = np.zeros((*grid, used.size), np.int64)
    done = until = 0
    for where, contexts in steps(codes):
        flat, part = contexts.reshape(-1), np.empty(contexts.size, np.uint16)
        low = 0
        while low < flat.size:
            if done == until:
                rans.set(_frequencies(counts, prior, strength))
                until = min(count, done + max(32, done >> 2))
            high = min(flat.size, low + until - done)
            part[low:high] = rans.read(flat[low:high])
            key = flat[low:high] * np.int64(used.size) + part[low:high]
            counts += np.bincount(key, minlength=counts.size).reshape(counts.shape)
            done, low = done + high - low, high
        codes[where] = part.reshape(contexts.shape)
    rans.end()
    return _look_up(used.astype(kind), codes.reshape(-1))


def _occurring(bits: _Bits, alphabet: int) -> np.ndarray:
    """Which codes occur: 1 for all; 0, then runs of those that do not and do, in turn."""
    if bits.take(1):
        return np.ones(alphabet, bool)
    occurring = np.zeros(alphabet, bool)
    code, value = _bounded(bits.gamma() - 1, alphabet - 1), True
    while code < alphabet:
        run = _bounded(bits.gamma(), alphabet - code)
        occurring[code : code + run] = value
        code, value = code + run, not value
    return occurring


def _prior(ranks: np.ndarray, zeros: int, decay: int) -> np.ndarray:
    """What is believed of each code at first: less the farther from zero."""
    falling = [1 << 16]
    for _ in range(int(np.abs(ranks).max())):
        falling.append(max(64, falling[-1] - (falling[-1] * decay >> 6)))
    weights = np.array(falling, np.int64)[np.maximum(np.abs(ranks) - 1, 0)]
    if zeros:
        weights[0] = weights[1:].sum() * zeros // (16 - zeros)
    return 1 + weights * (32 * ranks.size) // weights.sum()


def _frequencies(counts: np.ndarray, prior: np.ndarray, strength: int) -> np.ndarray:
    """(contexts, codes), each row's sum 2**15: a context's own counts, and what its neighbours
    and all contexts together have seen, taken for `strength` codes of its own."""
    size = prior.size
    common = 64 * counts.sum(axis=(0, 1)) + prior
    rounds = min(max((512 * size // (1 + int(counts.sum()))).bit_length(), 1), 8)
    near = counts
    for axis in (0, 1):  # weights 1, 2, 1; nothing outside
        padded = np.pad(near, [(int(a == axis),) * 2 for a in range(3)])
        below, above = np.delete(padded, [-1, -2], axis), np.delete(padded, [0, 1], axis)
        near = 2 * near + below + above
    for _ in range(rounds):  # the same from code to code, which end in themselves; not code 0
        rest = np.pad(near[..., 1:], [(0, 0), (0, 0), (1, 1)], mode="edge")
        rest = rest[..., :-2] + 2 * rest[..., 1:-1] + rest[..., 2:]
        near = np.concatenate([4 * near[..., :1], rest], axis=2)
    parent = (near << 16) + (16 << 2 * rounds) * ((common << 16) // common.sum())
    share = parent // ((parent.sum(axis=2, keepdims=True) >> 24) + 1)
    weight = ((counts << 16) + (share * strength >> 8)).reshape(-1, size)
    found = 1 + weight * ((1 << 15) - size) // weight.sum(axis=1, keepdims=True)
    found[np.arange(len(found)), weight.argmax(axis=1)] += (1 << 15) - found.sum(axis=1)
    return found


class _Rans:
    """Symbol n is in lane n mod lanes; a lane that falls below 2**16 takes the next word."""

    def __init__(self, data: _Bytes, lanes: int) -> None:
        self.states = np.frombuffer(data.take(4 * lanes), "<u4").astype(np.int64)
        self.words = np.frombuffer(data.left, "<u2")
        self.lane = self.place = 0
        if np.any(self.states < 1 << 16):
            raise ContainerError("a lane starts below 65536")

    def set(self, frequencies: np.ndarray) -> None:
        self.frequencies = frequencies
        ends = np.cumsum(frequencies, axis=1)
        self.starts = ends - frequencies
        # The rows' ends, one row above the other, rise: one search serves all contexts.
        self.ends = (ends + (np.arange(len(ends))[:, None] << 15)).reshape(-1)

    def read(self, contexts: np.ndarray) -> np.ndarray:
        symbols = np.empty(contexts.size, np.uint16)
        low = 0
        while low < contexts.size:
            now = contexts[low : low + self.states.size - self.lane].astype(np.int64)
            lanes = slice(self.lane, self.lane + now.size)
            slots = self.states[lanes] & 32767
            found = np.searchsorted(self.ends, now << 15 | slots, side="right")
            found -= now * self.frequencies.shape[1]
            states = self.frequencies[now, found] * (self.states[lanes] >> 15) + slots
            states -= self.starts[now, found]
            short = np.flatnonzero(states < 1 << 16)
            words = self.words[self.place : self.place + short.size]
            if words.size < short.size:
                raise ContainerError("words end before the codes")
            states[short] = states[short] << 16 | words
            self.states[lanes] = states
            self.place += short.size
            self.lane = (self.lane + now.size) % self.states.size
            symbols[low : low + now.size] = found
            low += now.size
        return symbols

    def end(self) -> None:
        if self.place != self.words.size or np.any(self.states != 1 << 16):
            raise ContainerError("lanes do not end where they should")


def _layout(
    bits: _Bits, shape: tuple[int, ...], ranks: np.ndarray
) -> tuple[tuple[int, int], tuple[int, int], Callable[[np.ndarray], Iterator[Step]]]:
    """((shifts, spreads) of the contexts, the two axes that the codes are seen in, steps)."""
    kind = bits.take(2)
    if kind == 0:
        return (1, 1), (1, math.prod(shape)), _flat
    if kind == 1 and shape:
        mean, limits = _bounded(bits.gamma() - 1, 1 << 20), _limits(bits)
        seen = shape[0], math.prod(shape[1:])
        return (1, len(limits) + 1), seen, lambda codes: _blocks(codes, np.abs(ranks), mean, limits)
    if kind == 2 and len(shape) > 2 and math.prod(shape[2:]) <= 64:
        near = _near(shape)
        places = [(n, [bits.signed() for _ in range(2 * len(n) + 1)]) for n in near]
        shifts, spreads = _limits(bits), _limits(bits)
        grid = 2 * len(shifts) + 1, len(spreads) + 1
        _bounded(grid[0] * grid[1], 512)
        seen = math.prod(shape[:2]), len(places)
        return grid, seen, lambda codes: _planes(codes, ranks, places, (shifts, spreads))
    raise ContainerError(f"layout {kind} for a tensor of shape {shape}")


def _flat(codes: np.ndarray) -> Iterator[Step]:
    """All codes at once, in one context."""
    yield (slice(None), slice(None)), np.broadcast_to(np.uint16(0), codes.shape)


def _limits(bits: _Bits) -> list[int]:
    limits: list[int] = []
    for _ in range(_bounded(bits.gamma() - 1, 511)):
        limits.append(bits.gamma() + (limits[-1] if limits else 0))
    return limits


def _class(measures: np.ndarray, limits: list[int]) -> np.ndarray:
    """How many of the limits are <= each."""
    return np.searchsorted(np.array(limits, np.int64), measures, side="right")


def _blocks(
    codes: np.ndarray, magnitudes: np.ndarray, mean: int, limits: list[int]
) -> Iterator[Step]:
    """16 x 16 blocks; the spread follows from the mean magnitudes seen in the row and column."""
    edges = [[size * part // 16 for part in range(17)] for size in codes.shape]
    columns = np.zeros(codes.shape[1], np.int64)
    for top, bottom in pairwise(edges[0]):
        rows = np.zeros(bottom - top, np.int64)
        for left, right in pairwise(edges[1]):
            if top == bottom or left == right:
                continue
            row = (256 * rows + 16 * mean) // (left + 16)
            column = (256 * columns[left:right] + 16 * mean) // (top + 16)
            where = slice(top, bottom), slice(left, right)
            yield where, _class(row[:, None] * column // max(mean, 1), limits)
            seen = magnitudes[codes[where]]
            rows += seen.sum(axis=1)
            columns[left:right] += seen.sum(axis=0)


def _planes(
    codes: np.ndarray,
    ranks: np.ndarray,
    places: list[tuple[list[int], list[int]]],
    limits: tuple[list[int], list[int]],
) -> Iterator[Step]:
    """Place after place of all kernels; earlier places of the same kernel say where the code is
    expected (shift) and how far from zero (spread)."""
    values = np.zeros((len(places), len(codes)), np.int64)
    for number, (near, numbers) in enumerate(places):
        a, b, bias = numbers[: len(near)], numbers[len(near) : -1], numbers[-1]
        expected, spread = np.zeros(len(codes), np.int64), np.full(len(codes), bias, np.int64)
        for place, for_shift, for_spread in zip(near, a, b, strict=True):
            expected += for_shift * values[place]
            spread += for_spread * np.abs(values[place])
        spread = np.maximum(spread, 1)
        towards = np.sign(expected) * _class(16 * np.abs(expected) // spread, limits[0])
        contexts = (len(limits[0]) + towards) * (len(limits[1]) + 1) + _class(spread, limits[1])
        where = slice(None), slice(number, number + 1)
        yield where, contexts[:, None]
        values[number] = ranks[codes[where][:, 0]]


def _near(shape: tuple[int, ...]) -> list[list[int]]:
    """For each place of a kernel the 8 nearest earlier ones, of equals the earlier."""
    places = [divmod(place, shape[-1]) for place in range(math.prod(shape[2:]))]
    found: list[list[int]] = []
    for row, column in places:
        before = [((r - row) ** 2 + (c - column) ** 2, k) for k, (r, c) in enumerate(places)]
        found.append([k for _, k in sorted(before[: len(found)])[:8]])
    return found


if __name__ == "__main__":
    weights_by_name, _ = read_dc(sys.argv[1])
    np.savez(sys.argv[2], **weights_by_name)
