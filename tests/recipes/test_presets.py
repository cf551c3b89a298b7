"""Preprocessing by name or file: the figures of the papers' code, and one line for the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from compress.errors import DataError
from compress.models.mobilenet_v2 import mobilenet_v2_spec
from compress.models.squeezenet_caffe import CAFFE_PREPROCESS
from compress.spec import Preprocess
from recipes.pictures.presets import PRESETS, named_preprocess


def test_the_names_of_the_nets_that_we_know() -> None:
    """What our own nets with published weights are fed with."""
    assert named_preprocess("caffe", 227) == CAFFE_PREPROCESS
    assert named_preprocess("imagenet", 224) == mobilenet_v2_spec().preprocess


def test_resolutions_keep_their_proportion() -> None:
    found = named_preprocess("imagenet", 112)
    assert (found.resize, found.crop) == (128, 112)
    assert named_preprocess("caffe", 224).resize == (256, 256)
    found = named_preprocess("inception", 224)
    assert (found.resize, found.crop) == (256, 224)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("side", [1, 32, 224, 227, 299, 4096])
def test_every_crop_fits_into_what_was_resized(name: str, side: int) -> None:
    found = named_preprocess(name, side)
    assert found.crop == side
    sides = found.resize if isinstance(found.resize, tuple) else (found.resize,)
    assert all(length is not None and length >= side for length in sides)


def test_inception_goes_from_minus_one_to_one() -> None:
    import numpy as np

    ends = named_preprocess("inception", 1).normalise(np.array([0, 255], np.uint8).reshape(2, 1, 1))
    np.testing.assert_allclose(ends[:, 0, 0, 0], [-1, 1], atol=1e-6)


def test_a_file_may_leave_fields_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    mine = Preprocess(resize=(20, 30), crop=16, mean=(0.1, 0.2, 0.3))
    path.write_text(json.dumps(asdict(mine)))
    assert named_preprocess(str(path), 16) == mine
    path.write_text('{"crop": 16}')
    assert named_preprocess(str(path), 16) == Preprocess(crop=16)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "no JSON"),
        ("[" * 100_000, "over 65,536 bytes"),
        ("[" * 60_000, "no JSON"),
        ("[1]", "has list; allowed are resize, crop"),
        ('{"size": 3}', r"has \['size'\]; allowed are resize, crop"),
        ('{"crop": 0}', "crop=0"),
        ('{"std": [0]}', "above 0"),
        ('{"crop": "9"}', "crop=9"),
    ],
)
def test_a_file_that_is_no_preprocessing(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        named_preprocess(str(path), 224)
    assert "mine.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_tells_the_names() -> None:
    with pytest.raises(DataError, match="'torch' was asked for; there are imagenet, caffe"):
        named_preprocess("torch", 224)
    with pytest.raises(DataError, match="0 x 0"):
        named_preprocess("unit", 0)
