from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from compress.errors import DataError
from compress.models.lenet import lenet5_spec
from compress.models.squeezenet import squeezenet1_1_spec
from compress.spec import Preprocess, TensorSpec
from targets.metadata import artifact_metadata, read_metadata
from tests.candidates import fresh


def test_round_trip_and_canonical_form() -> None:
    candidate = fresh(lenet5_spec)
    text = artifact_metadata(candidate)
    found = read_metadata(text)
    assert found.model == "lenet5"
    assert found.digest == candidate.digest()
    assert found.classes == candidate.spec.classes
    assert found.preprocess == candidate.spec.preprocess
    assert found.inputs == candidate.spec.inputs
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert text == artifact_metadata(fresh(lenet5_spec))


def test_the_files_own_layout_is_kept() -> None:
    inputs = (TensorSpec("input", (1, 28, 28, 1), "int8", "NHWC"),)
    assert read_metadata(artifact_metadata(fresh(lenet5_spec), inputs)).inputs == inputs


def test_resize_to_a_rectangle_is_kept() -> None:
    raw = json.loads(artifact_metadata(fresh(lenet5_spec)))
    raw["preprocess"] |= {"resize": [20, 30], "channel_order": "BGR", "mean": [1, 2, 3]}
    assert read_metadata(json.dumps(raw)).preprocess.resize == (20, 30)


def test_picture_nets_of_the_package() -> None:
    candidate = fresh(lambda: squeezenet1_1_spec(small=True))
    assert isinstance(read_metadata(artifact_metadata(candidate)).preprocess, Preprocess)


@pytest.mark.parametrize(
    "changed",
    [
        {"channel_order": "GREY", "mean": (0.5,), "std": (2.0,)},
        {"channel_order": "BGR", "mean": (1, 2, 3), "std": (4.0,)},
        {"channel_order": "RGB", "mean": (-0.5,), "std": (0.1, 0.2, 0.3), "scale": -1.0},
        {"resize": (1 << 20, 1), "crop": 1, "antialias": False},
    ],
)
def test_what_a_specification_accepts_travels(changed: dict[str, Any]) -> None:
    preprocess = Preprocess(**changed)
    candidate = fresh(lambda: replace(lenet5_spec(), preprocess=preprocess))
    assert read_metadata(artifact_metadata(candidate)).preprocess == preprocess


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("digest", "0" * 63),
        ("digest", 5),
        ("classes", "abc"),
        ("classes", [1]),
        ("model", None),
        ("preprocess.mean", [float("nan")]),
        ("preprocess.mean", [1.0, 2.0]),
        ("preprocess.mean", True),
        ("preprocess.mean", [True]),
        ("preprocess.mean", [1e39]),
        ("preprocess.shear", 1),
        ("preprocess", []),
        ("preprocess", None),
        ("preprocess.std", [0.0]),
        ("preprocess.std", []),
        ("preprocess.crop", -1),
        ("preprocess.crop", 1 << 40),
        ("preprocess.resize", [1, 2, 3]),
        ("preprocess.resize", True),
        ("preprocess.channel_order", "CMYK"),
        ("preprocess.channel_order", ["RGB"]),
        ("preprocess.interpolation", "magic"),
        ("preprocess.antialias", 1),
        ("preprocess.scale", "1"),
        ("inputs", {}),
        ("inputs", [{"name": "x"}]),
        ("inputs", [{"name": "x", "shape": [0], "dtype": "float32", "layout": "NC"}]),
        ("inputs", [{"name": "x", "shape": [1], "dtype": "float32", "layout": "CN"}]),
    ],
)
def test_damaged_fields_are_refused(path: str, value: Any) -> None:
    raw = json.loads(artifact_metadata(fresh(lenet5_spec)))
    *outer, last = path.split(".")
    place = raw[outer[0]] if outer else raw
    place[last] = value
    with pytest.raises(DataError, match=r"metadata is damaged .*export the file anew") as raised:
        read_metadata(json.dumps(raw))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("field", ["version", "digest", "classes", "preprocess", "inputs"])
def test_missing_fields_are_refused(field: str) -> None:
    raw = json.loads(artifact_metadata(fresh(lenet5_spec)))
    del raw[field]
    with pytest.raises(DataError, match=field):
        read_metadata(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", "[" * 100_000])
def test_text_that_is_no_metadata(text: str) -> None:
    with pytest.raises(DataError, match="damaged"):
        read_metadata(text)


def test_later_versions_and_long_texts_are_refused() -> None:
    raw = json.loads(artifact_metadata(fresh(lenet5_spec)))
    raw["version"] = 2
    with pytest.raises(DataError, match="version 2; 1 is readable"):
        read_metadata(json.dumps(raw))
    with pytest.raises(DataError, match="at most 8,388,608"):
        read_metadata(" " * ((8 << 20) + 1))
