"""rate_models: bits that a decoder could keep to, sizes that the coders' own bytes bear out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.coding import huffman
from compress.coding.codes import MAX_ALPHABET, code_rates
from compress.encoding import Encoded
from compress.errors import RangeError
from compress.rate_levels import even_grid
from compress.rate_models import MODELS, Context, Huffman, Order0, Packed
from targets.formats.dc_codes import write_codes

LEVELS = np.arange(-8.0, 9.0)
COUNTS = st.lists(st.integers(0, 1000), min_size=17, max_size=17).map(np.array)


def kernels(seed: int = 0, spread: float = 2.0) -> np.ndarray:
    """(64, 8, 3, 3) places in LEVELS; large weights stand together in a kernel."""
    generator = np.random.default_rng(seed)
    sizes = spread * generator.exponential(size=(64, 8, 1, 1))
    return np.rint(8 + sizes * generator.standard_normal((64, 8, 3, 3))).clip(0, 16).astype(np.intp)


def encoded(places: np.ndarray) -> Encoded:
    """Zero first, then the levels in use, ascending."""
    used = np.unique(np.append(places, 8))
    book = np.append(LEVELS[8], LEVELS[used[used != 8]])
    codes = np.argsort(np.append(8, used[used != 8]))
    found = codes[np.searchsorted(used, places)]
    one = np.ones(1, np.float32)
    result = Encoded(found.astype(np.uint8), book.astype(np.int8), one)
    assert np.array_equal(result.decode(), LEVELS[places])
    return result


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 4.0])
def test_every_model_prices_every_level_of_every_place(name: str, spread: float) -> None:
    places = kernels(spread=spread)
    found = MODELS[name].rates(places, LEVELS)
    assert found.contexts.shape == places.shape
    assert found.bits.shape[1] == LEVELS.size
    assert found.contexts.max() < len(found.bits)
    assert np.isfinite(found.bits).all()
    assert (found.bits >= 0).all()


@pytest.mark.parametrize("name", ["order0", "huffman", "context"])
def test_bits_of_what_was_chosen_add_up_to_the_size(name: str) -> None:
    places = kernels()
    found = MODELS[name].rates(places, LEVELS)
    total = found.bits[found.contexts, places].sum() / 8
    size = MODELS[name].size_bytes(encoded(places))
    assert 0.9 * size < total <= 1.005 * size  # headers, and what learning the counts takes


@pytest.mark.parametrize("name", ["order0", "huffman", "context"])
def test_entropy_coders_share_the_grid_and_keep_given_levels(name: str) -> None:
    weight = np.random.default_rng(0).standard_normal((1, 4, 50))
    assert MODELS[name].grid(weight, 2.0, 1e-3) == even_grid(weight, 2.0, 1e-3)
    kept = MODELS[name].kept(8 * weight, np.ones(weight.shape), LEVELS, 1.0)
    assert np.array_equal(kept, LEVELS)


@given(COUNTS)
def test_bits_of_order0_are_finite_and_no_shorter_than_a_code_allows(counts: np.ndarray) -> None:
    bits = Order0().bits(counts, LEVELS)
    assert np.isfinite(bits).all()
    assert np.exp2(-bits).sum() <= 1 + 1e-9  # Kraft


def test_what_occurs_often_takes_few_bits() -> None:
    counts = np.zeros(17, np.int64)
    counts[8], counts[9] = 900, 100
    bits = Order0().bits(counts, LEVELS)
    assert bits[8] == pytest.approx(-np.log2(0.9), abs=0.01)
    assert bits[9] == pytest.approx(-np.log2(0.1), abs=0.05)
    assert bits[10] < bits[16]  # unused: the farther the dearer


def test_far_levels_of_a_narrow_distribution_do_not_overflow() -> None:
    levels = np.arange(-16000.0, 16001.0)
    counts = np.zeros(levels.size, np.int64)
    counts[16000] = 10_000
    for model in (Order0(), Huffman(), Packed()):
        assert np.isfinite(model.bits(counts, levels)).all()


def test_the_size_of_order0_is_the_entropy() -> None:
    assert Order0().counted_bytes(np.array([0, 4, 4, 0, 8])) == pytest.approx(16 * 1.5 / 8)
    assert Order0().counted_bytes(np.array([5])) == 0
    assert Order0().counted_bytes(np.zeros(3, np.int64)) == 0


@given(COUNTS)
def test_bits_of_huffman_are_whole_and_those_in_use_a_code(counts: np.ndarray) -> None:
    bits = Huffman().bits(counts, LEVELS)
    used = bits[counts > 0]
    assert np.array_equal(bits, np.rint(bits))
    assert np.exp2(-used).sum() == (1 if used.size else 0)
    assert (bits[counts == 0] == used.max(initial=0) + 1).all()


def test_words_of_huffman_end_at_fifteen_bits() -> None:
    counts = 1 << np.arange(17)
    counts[0] = 0
    bits = Huffman().bits(counts, LEVELS)
    assert bits.max() == bits[0] == huffman.MAX_LENGTH
    assert bits.min() == 1


def test_the_size_of_huffman_is_that_of_its_stream() -> None:
    made = encoded(kernels())
    words = huffman.pack(made.indices.reshape(-1), made.codebook.size)
    assert Huffman().size_bytes(made) == pytest.approx(len(words), rel=0.002)
    assert Huffman().size_bytes(encoded(np.full((4, 2, 3, 3), 8))) <= 3


def test_more_different_levels_than_huffman_has_words_are_refused() -> None:
    with pytest.raises(RangeError, match="32769 symbols") as error:
        Huffman().bits(np.ones(32769, np.int64), np.arange(-16384.0, 16385.0))
    assert "\n" not in str(error.value)


def test_context_prices_a_level_by_its_neighbours() -> None:
    """What the bits are, whatever the order of levels, is the coder's own word."""
    places = kernels()
    found = Context().rates(places, LEVELS)
    assert len(found.bits) > 1
    book = np.append(LEVELS[8:], LEVELS[:8])  # another order than ascending, zero first
    own = code_rates(((places - 8) % 17).astype(np.uint16), 17, book)
    mine = found.bits[found.contexts, places]
    assert np.array_equal(mine, own.bits[own.contexts, (places - 8) % 17])
    flat = Order0().rates(places, LEVELS).bits[0, places]
    assert mine.sum() < 0.97 * flat.sum()


def test_context_falls_back_beyond_its_alphabet() -> None:
    levels = np.arange(-2048.0, 2049.0)
    assert levels.size == MAX_ALPHABET + 1
    places = kernels() + 2040
    found, plain = (model.rates(places, levels) for model in (Context(), Order0()))
    assert np.array_equal(found.bits, plain.bits)


@pytest.mark.parametrize("spread", [0.05, 0.3, 2.0])
def test_the_size_of_context_is_what_the_container_takes(spread: float) -> None:
    made = encoded(kernels(spread=spread))
    written = len(write_codes(made.indices, made.codebook)) - 1  # the number of the coding
    assert Context().size_bytes(made) == pytest.approx(written, rel=0.01, abs=4)


def test_a_codebook_beyond_the_context_coder_has_a_size() -> None:
    book = np.append(np.float32(0), np.arange(1, MAX_ALPHABET + 1, dtype=np.float32))
    codes = np.arange(book.size, dtype=np.uint16)
    made = Encoded(codes, book, np.ones(1, np.float32))
    written = len(write_codes(codes, book)) - 1
    assert Context().size_bytes(made) == pytest.approx(written, rel=0.01)
