"""Tests mirror the packages; `tests.nets` holds the small nets that they share."""
