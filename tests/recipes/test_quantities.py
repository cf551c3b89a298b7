"""Sizes, shares and ratios as people write them, and what is no such thing."""

from __future__ import annotations

import argparse

import pytest

from recipes.toolbox.quantities import parse_bytes, parse_ratio, parse_share


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("1500000", 1_500_000),
        ("1.5MB", 1_500_000),
        (" 1.5 mb ", 1_500_000),
        ("4.1KB", 4_100),  # exact: 4.1 * 1000 in floats is 4099.99...
        ("1.5MiB", 1_572_864),
        ("900KiB", 921_600),
        ("2GB", 2_000_000_000),
        ("1GiB", 1 << 30),
        (".5kb", 500),
        ("1.0009KB", 1_000),
        ("12B", 12),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no size"),
        ("MB", "is no size"),
        ("-1MB", "is no size"),
        ("1.5M", "is no size"),
        ("1,5MB", "is no size"),
        ("1e6", "is no size"),
        ("nan", "is no size"),
        ("1TB", "is no size"),
        ("9" * 1_000_000, "is no size"),
        ("0", "0 bytes"),
        ("0.5B", "0 bytes"),
        ("999999999GB", "from 1 to 1,000,000,000,000,000 are"),
    ],
)
def test_no_sizes(text: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words) as caught:
        parse_bytes(text)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("text", "share"),
    [("1%", 0.01), ("0.01", 0.01), ("0.5 %", 0.005), ("100%", 1.0), ("0", 0.0), ("0%", 0.0)],
)
def test_shares(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one", "is not a share"),
        ("-1%", "is not a share"),
        ("nan", "is not a share"),
        ("101%", "from 0% to 100%"),
        ("1", "write 1% for percent"),
        ("1.0", "write 1.0% for percent"),
        ("5", "write 5% for percent"),
    ],
)
def test_no_shares(text: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        parse_share(text)


def test_ratios() -> None:
    assert parse_ratio("1.1") == 1.1
    assert parse_ratio("1000") == 1000
    for text in ("0", "-1", "inf", "nan", "1001", "110%", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is no ratio"):
            parse_ratio(text)
