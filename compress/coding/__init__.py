"""Lossless coders of the container. They know arrays and bytes, no network."""
