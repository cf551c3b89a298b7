"""What chance does to pictures: each way by itself, and the draws of a part as of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recipes.pictures.resizing import resize
from recipes.toolbox.augmenting import Augmentation, augment


def changed(pixels: NDArray[np.uint8], how: Augmentation, seed: int) -> NDArray[np.uint8]:
    return augment(pixels, how, how.draw(len(pixels), np.random.default_rng(seed)))


pictures = st.tuples(
    *(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)),
    *(st.sampled_from([(), (1,), (3,)]), st.integers(0, 2**32 - 1)),
)


def made(sizes: tuple[int, int, int, tuple[int, ...], int]) -> NDArray[np.uint8]:
    """Random pictures, (N, H, W) or (N, H, W, C), without zeros."""
    count, height, width, channels, seed = sizes
    shape = (count, height, width, *channels)
    return np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)


@given(pictures, st.integers(0, 99))
def test_no_augmentation_is_the_identity(sizes: Any, seed: int) -> None:
    pixels = made(sizes)
    np.testing.assert_array_equal(changed(pixels, Augmentation(), seed), pixels)


@given(pictures, st.integers(0, 99))
def test_flips_mirror_left_and_right(sizes: Any, seed: int) -> None:
    pixels = made(sizes)
    before = pixels.copy()
    for given_, found in zip(pixels, changed(pixels, Augmentation(flip=True), seed), strict=True):
        same, mirrored = np.array_equal(found, given_), np.array_equal(found, given_[:, ::-1])
        assert same or mirrored
    np.testing.assert_array_equal(pixels, before)


@given(pictures, st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_crops_come_from_the_padded_picture(sizes: Any, shift: int, flip: bool, seed: int) -> None:
    pixels = made(sizes)
    found = changed(pixels, Augmentation(shift=shift, flip=flip), seed)
    assert found.shape == pixels.shape
    assert found.dtype == np.uint8
    for i, (picture, crop) in enumerate(zip(pixels, found, strict=True)):
        sources = [picture, picture[:, ::-1]] if flip else [picture]
        assert any(np.array_equal(crop, c) for s in sources for c in crops(s, shift)), i


def crops(picture: NDArray[np.uint8], shift: int) -> Iterator[NDArray[np.uint8]]:
    """All crops of the picture in a frame of zeros, `shift` wide."""
    height, width = picture.shape[:2]
    frame = np.zeros((height + 2 * shift, width + 2 * shift, *picture.shape[2:]), np.uint8)
    frame[shift : shift + height, shift : shift + width] = picture
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            yield frame[top : top + height, left : left + width]


def test_every_shift_and_both_mirrors_occur() -> None:
    pixels = np.repeat(np.arange(1, 26, dtype=np.uint8).reshape(1, 5, 5), 2000, axis=0)
    found = changed(pixels, Augmentation(shift=1, flip=True), 0)
    kinds, counts = np.unique(found.reshape(2000, -1), axis=0, return_counts=True)
    assert len(kinds) == 18
    assert counts.min() > 70


EVERYTHING = Augmentation(crop=0.2, flip=True, shift=1, brightness=0.5, contrast=0.5)


@given(pictures, st.integers(0, 99), st.integers(0, 99))
def test_some_rows_are_changed_as_within_the_whole(sizes: Any, seed: int, row: int) -> None:
    pixels = made(sizes)
    draws = EVERYTHING.draw(len(pixels), np.random.default_rng(seed))
    whole = augment(pixels, EVERYTHING, draws)
    rows = np.array([row % len(pixels), 0])
    np.testing.assert_array_equal(augment(pixels[rows], EVERYTHING, draws.rows(rows)), whole[rows])
    last = slice(len(pixels) // 2, None)
    np.testing.assert_array_equal(augment(pixels[last], EVERYTHING, draws.rows(last)), whole[last])


def test_crops_have_the_areas_and_ratios_that_are_promised() -> None:
    """Pictures that say each pixel's own place: what was cut out can be read off the corners."""
    side, smallest = 100, 0.25
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    picture = np.stack([rows, columns], -1).astype(np.uint8)
    found = changed(np.repeat(picture[None], 400, 0), Augmentation(crop=smallest), 0).astype(int)
    highs = found[:, -1, 0, 0] - found[:, 0, 0, 0] + 1
    wides = found[:, 0, -1, 1] - found[:, 0, 0, 1] + 1
    areas, ratios = highs * wides / side**2, wides / highs
    assert smallest * 0.97 < areas.min() < 0.3
    assert 0.85 < areas.max() <= 1
    assert 0.73 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.37
    tops = found[:, 0, 0, 0]
    assert tops.min() == 0
    assert (tops + highs).max() == side
    assert len(np.unique(tops)) > 30


def test_a_crop_is_the_resized_box() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3)).astype(np.uint8)
    how = Augmentation(crop=0.25)
    draws = replace(how.draw(1, np.random.default_rng(0)), boxes=np.array([[0], [0.5], [0.5], [0]]))
    cut = pixels[0, 5:15, 0:10]  # a quarter, square, half-way down, at the left
    np.testing.assert_array_equal(augment(pixels, how, draws)[0], resize(cut, (20, 20), "bilinear"))


def test_brightness_and_contrast_by_their_factors() -> None:
    pixels = np.array([[[10, 20], [30, 240]], [[0, 100], [100, 200]]], np.uint8)
    how = Augmentation(brightness=0.5, contrast=0.5)
    draws = how.draw(2, np.random.default_rng(0))
    assert draws.brightness is not None
    assert draws.contrast is not None
    np.testing.assert_array_equal(
        augment(pixels, how, replace(draws, brightness=np.array([1.2, 0.5]), contrast=None)),
        [[[12, 24], [36, 255]], [[0, 50], [50, 100]]],
    )
    np.testing.assert_array_equal(  # about the means 75 and 100
        augment(pixels, how, replace(draws, brightness=None, contrast=np.array([0.5, 1.4]))),
        [[[42, 48], [52, 158]], [[0, 100], [100, 240]]],
    )


def test_factors_fill_their_range() -> None:
    draws = Augmentation(brightness=0.3, contrast=0.1).draw(5000, np.random.default_rng(0))
    for factors, most in ((draws.brightness, 0.3), (draws.contrast, 0.1)):
        assert factors is not None
        assert 1 - most <= factors.min() < 1 - 0.98 * most
        assert 1 + 0.98 * most < factors.max() <= 1 + most
        assert factors.mean() == pytest.approx(1, abs=0.01)
