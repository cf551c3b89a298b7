"""Loaders in Python."""
