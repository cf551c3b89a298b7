"""Specifications as data: round trips, and files that may not choose what is imported."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import SpecError
from compress.models.lenet import lenet5_spec
from compress.spec import ModelSpec, Preprocess, TensorSpec
from tests.nets import digits_plain_spec

FINITE = st.floats(0.01, 1e3)
PREPROCESS = st.builds(
    Preprocess,
    resize=st.one_of(
        st.none(), st.integers(1, 999), st.tuples(st.integers(1, 999), st.integers(1, 999))
    ),
    crop=st.one_of(st.none(), st.integers(1, 999)),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
    antialias=st.booleans(),
    channel_order=st.sampled_from(["RGB", "BGR", "GREY"]),
    scale=FINITE,
    mean=st.tuples(FINITE),
    std=st.tuples(FINITE),
)


@given(
    kwargs=st.dictionaries(st.text(), st.one_of(st.integers(), st.booleans(), st.text())),
    shape=st.tuples(st.just(1), *(st.integers(1, 64) for _ in range(3))),
    classes=st.lists(st.text()).map(tuple),
    preprocess=PREPROCESS,
)
def test_json_round_trip(
    kwargs: dict[str, Any],
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    preprocess: Preprocess,
) -> None:
    inputs = (TensorSpec("in", shape),)
    spec = ModelSpec("compress.models.x:y", kwargs, inputs, classes, preprocess)
    text = spec.to_json()
    back = ModelSpec.from_json(text)
    assert back == spec
    assert back.to_json() == text
    assert "\n" not in text


def test_canonical_json_does_not_depend_on_the_order_of_arguments() -> None:
    one = ModelSpec("compress.models.x:y", {"a": 1, "b": 2})
    two = ModelSpec("compress.models.x:y", {"b": 2, "a": 1})
    assert one.to_json() == two.to_json()


def test_building_gives_the_net_in_eval_mode() -> None:
    net = lenet5_spec().build()
    assert type(net).__name__ == "LeNet5"
    assert not net.training
    assert lenet5_spec().name == "lenet5"


@pytest.mark.parametrize(
    "builder",
    [
        "os:system",
        "builtins:eval",
        "tests.nets:digits_plain",
        "compress.models:lenet5",
        "compress.modelsx.lenet:lenet5",
        "compress.models.lenet.os:system",
        "compress.models..lenet:lenet5",
        "compress.models.lenet:_caffe_xavier",
        "compress.models.lenet:lenet5:x",
        "compress.models.lenet",
        "",
    ],
)
def test_a_file_names_only_our_own_builders(builder: str) -> None:
    raw = {**json.loads(lenet5_spec().to_json()), "builder": builder}
    with pytest.raises(SpecError, match=r"only builders of compress\.models") as error:
        ModelSpec.from_json(json.dumps(raw))
    assert "\n" not in str(error.value)
    assert ModelSpec.from_json(json.dumps(raw), trusted=True).builder == builder


@pytest.mark.parametrize(
    "builder",
    [
        ":lenet5",
        "lenet5",
        "no_such_module_here:net",
        "compress.models.lenet:no_such_net",
        "compress.models.lenet:nn",  # a module, not a function
        "compress.models.lenet:Tensor",  # gives something that is no net
        "compress.models.lenet:lenet5_spec",
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(builder: str) -> None:
    with pytest.raises(SpecError, match="builder") as error:
        ModelSpec(builder).build()
    assert "\n" not in str(error.value)


def test_wrong_arguments_of_a_builder() -> None:
    with pytest.raises(SpecError, match="colour"):
        ModelSpec("compress.models.lenet:lenet5", {"colour": "red"}).build()


CHANGES: dict[str, tuple[str, Any]] = {
    "no builder": ("builder", ...),
    "no inputs": ("inputs", ...),
    "arguments a list": ("kwargs", [1]),
    "inputs a number": ("inputs", 3),
    "shape of words": ("inputs", [{"name": "x", "shape": ["a"], "dtype": "float32"}]),
    "empty side": (
        "inputs",
        [{"name": "x", "shape": [1, 0], "dtype": "float32", "layout": "NC"}],
    ),
    "a shape of terabytes": (
        "inputs",
        [{"name": "x", "shape": [1, 3, 99999, 99999], "dtype": "float32", "layout": "NCHW"}],
    ),
    "negative sides": (
        "inputs",
        [{"name": "x", "shape": [-4, -4], "dtype": "float32", "layout": "NC"}],
    ),
    "unknown type": ("inputs", [{"name": "x", "shape": [1], "dtype": "load", "layout": "NC"}]),
    "unknown layout": ("inputs", [{"name": "x", "shape": [1], "dtype": "float32", "layout": "Z"}]),
    "preprocessing without mean": ("preprocess", {"resize": None, "std": [1]}),
    "unknown preprocessing": (
        "preprocess",
        {"resize": None, "std": [1], "mean": [0], "shear": 3},
    ),
    "division by zero": ("preprocess", {"resize": None, "std": [0], "mean": [0]}),
    "mean a word": ("preprocess", {"resize": None, "std": [1], "mean": "a"}),
    "negative crop": ("preprocess", {"resize": None, "crop": -1, "std": [1], "mean": [0]}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_damaged_specifications_are_refused_in_one_line(case: str) -> None:
    key, value = CHANGES[case]
    raw = json.loads(lenet5_spec().to_json())
    raw[key] = value
    if value is ...:
        del raw[key]
    with pytest.raises(SpecError) as error:
        ModelSpec.from_json(json.dumps(raw))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "null", "[" * 100_000])
def test_damaged_json_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="damaged"):
        ModelSpec.from_json(text)


def test_nets_with_other_than_one_input_are_refused() -> None:
    assert digits_plain_spec().input_shape == (1, 1, 8, 8)
    two = (TensorSpec("a", (1, 1)), TensorSpec("b", (1, 1)))
    for inputs in ((), two):
        with pytest.raises(SpecError, match="exactly 1"):
            _ = ModelSpec("m:f", inputs=inputs).input_shape


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two means of a colour picture": ({"mean": (0.1, 0.2)}, r"mean=\(0.1, 0.2\) for RGB.*1 or 3"),
    "two deviations": (
        {"std": (0.1, 0.2)},
        "std=.* for RGB pictures; allowed is a tuple of 1 or 3",
    ),
    "three means of a grey picture": (
        {"channel_order": "GREY", "mean": (0.1, 0.2, 0.3)},
        "for GREY pictures; allowed is a tuple of 1 finite numbers",
    ),
    "no means": ({"mean": ()}, "mean"),
    "a mean alone": ({"mean": 0.5}, "mean=0.5"),
    "a mean as a list, which is not frozen": ({"mean": [0.5]}, "mean"),
    "a mean of NaN": ({"mean": (float("nan"),)}, "mean"),
    "a mean past float32": ({"mean": (1e39,)}, "mean"),
    "a mean of numpy's float32, which JSON lacks": ({"mean": (np.float32(1),)}, "mean"),
    "a deviation of 0": ({"std": (1.0, 0.0, 1.0)}, "std.*above 0"),
    "a scale as text": ({"scale": "1"}, "scale"),
    "half a crop": ({"crop": 7.5}, "crop=7.5; allowed is None or a side"),
    "a crop of True": ({"crop": True}, "crop"),
    "three sides": ({"resize": (1, 2, 3)}, "resize"),
    "one side missing": ({"resize": (None, 2)}, "resize"),
    "an order unknown": (
        {"channel_order": "CMYK"},
        "channel_order=CMYK; allowed is RGB, BGR, GREY",
    ),
    "orders": ({"channel_order": ["RGB"]}, "channel_order"),
    "another interpolation": ({"interpolation": "magic"}, "nearest, bilinear, bicubic"),
    "antialias 1": ({"antialias": 1}, "antialias"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_preprocessing_is_one_line_and_files_are_judged_alike(case: str) -> None:
    wrong, message = WRONG[case]
    with pytest.raises(SpecError, match=message) as error:
        Preprocess(**wrong)
    assert "\n" not in str(error.value)
    # What JSON itself changes: a list becomes a tuple again, numpy's numbers cannot be written.
    if "numpy" not in case and "list" not in case:
        raw = json.loads(lenet5_spec().to_json())
        raw["preprocess"] = {**asdict(Preprocess()), **wrong}
        with pytest.raises(SpecError, match=list(wrong)[-1]):
            ModelSpec.from_json(json.dumps(raw))


@pytest.mark.parametrize("order", ["RGB", "BGR", "GREY"])
@pytest.mark.parametrize("count", [1, 3])
def test_one_number_or_one_for_each_channel(order: Any, count: int) -> None:
    numbers = (0.5,) * count
    if (order, count) == ("GREY", 3):
        with pytest.raises(SpecError, match="GREY"):
            Preprocess(channel_order=order, mean=numbers)
        return
    chain = Preprocess(channel_order=order, mean=numbers, std=numbers)
    pixels = np.zeros((1, 2, 2, 1 if order == "GREY" else 3), np.uint8)
    assert chain.normalise(pixels).shape == (1, pixels.shape[3], 2, 2)


def test_normalising_follows_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    chain = Preprocess(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    out = chain.normalise(pixels)
    assert out.shape == (2, 3, 4, 5)
    assert out.dtype == np.float32
    assert out.flags["C_CONTIGUOUS"]
    for n, y, x, c in [(0, 0, 0, 0), (1, 3, 4, 2), (1, 2, 1, 1)]:
        expected = (pixels[n, y, x, c] / 255 - chain.mean[c]) / chain.std[c]
        assert out[n, c, y, x] == pytest.approx(expected, abs=1e-6)
    grey = Preprocess(channel_order="GREY", scale=1.0).normalise(pixels[..., 0])
    np.testing.assert_array_equal(grey, pixels[:, np.newaxis, :, :, 0].astype(np.float32))
