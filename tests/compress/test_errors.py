"""What libraries say, quoted in one plain line."""

from __future__ import annotations

import pytest

from compress.errors import first_line, one_line

COLOURED = RuntimeError(
    "\x1b[96mThis is step 1/3\x1b[0m of exporting.\n\x1b[1;31mPages\x1b[0m of more\x1b[0K"
)


def test_the_first_line_is_plain() -> None:
    assert first_line(COLOURED) == "This is step 1/3 of exporting."


def test_all_of_it_in_one_line_is_plain() -> None:
    assert one_line(COLOURED) == "This is step 1/3 of exporting. Pages of more"


def test_brackets_of_a_shape_are_no_colour() -> None:
    assert one_line(ValueError("shape [96, 3]\nat [0K]")) == "shape [96, 3] at [0K]"


@pytest.mark.parametrize("text", ["", "\n", "\x1b[0m"])
def test_an_error_that_says_nothing_gives_its_kind(text: str) -> None:
    assert "KeyboardError" in first_line(type("KeyboardError", (Exception,), {})(text))


def test_quotes_are_bounded() -> None:
    assert len(first_line(ValueError("x" * 999))) == len(one_line(ValueError("x" * 999))) == 300
