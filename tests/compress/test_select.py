"""Layers by name and role; a misspelt pattern never passes silently."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compress.errors import RangeError
from compress.select import exactly, select
from tests.candidates import fresh
from tests.nets import digits_branch_spec

LAYERS = fresh(digits_branch_spec).network.layers()


def names(include: Any = ("*",), exclude: Any = ()) -> list[str]:
    return [layer.name for layer in select(LAYERS, include, exclude)]


def test_everything_by_default_in_the_nets_order() -> None:
    assert names() == [layer.name for layer in LAYERS]
    assert names()[0] == "stem.0"
    assert names()[-1] == "fc"


def test_roles_and_wildcards() -> None:
    assert names(["classifier"]) == ["fc"]
    assert names(["depthwise"]) == ["units.0.branch.3", "units.2.branch.3"]
    assert names(["pointwise"], ["last*"]) == [
        f"units.{unit}.branch.{place}" for unit in (0, 2) for place in (0, 5)
    ]
    assert names(["units.0.*", "fc"], ["depthwise"])[-1] == "fc"
    assert names([]) == []


@pytest.mark.parametrize("where", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_lists_the_layers(where: str) -> None:
    with pytest.raises(RangeError, match=r"'convolution'.*stem\.0") as error:
        names(**{where: ["convolution"]})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["include", "exclude"])
def test_a_bare_string_is_refused_not_read_letter_by_letter(where: str) -> None:
    with pytest.raises(RangeError, match="sequence"):
        names(**{where: "fc*"})


@pytest.mark.parametrize("name", ["linear", "conv", "depthwise", "features.0"])
def test_a_layer_that_is_called_like_a_role_is_chosen_alone(name: str) -> None:
    layers = [replace(LAYERS[0], name=name, role="conv"), *LAYERS]
    assert [layer.name for layer in select(layers, (exactly(name),))] == [name]
