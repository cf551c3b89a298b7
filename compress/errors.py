"""Errors that are the user's to mend, each one line: asked, found, allowed, what to do.

The command line prints the message and exits with 2, without a traceback. Our own bugs are
assertions, never these.
"""

from __future__ import annotations

import re


class EdgepressError(Exception):
    """Base of every error that the user can mend."""


class RangeError(EdgepressError):
    """An argument lies outside its allowed range."""


class DataError(EdgepressError):
    """A data file is missing, damaged or of another kind than asked for."""


class CheckpointError(EdgepressError):
    """A checkpoint is missing, of another net, or not plain tensors."""


class ModelError(EdgepressError):
    """A model file of other tools is missing, damaged, or holds what cannot be imported."""


class ContainerError(EdgepressError):
    """A compressed container or stream is damaged, truncated or hostile."""


class SpecError(EdgepressError):
    """A model specification names a builder or an argument that is not allowed."""


class EncodingError(EdgepressError):
    """An encoding does not decode to the parameter it explains."""


class StageOrderError(EdgepressError):
    """A stage stands where its input is not what it can work on."""


class TaskError(EdgepressError):
    """The user's task lacks what a stage needs, or gives something unusable."""


class ExportError(EdgepressError):
    """A candidate cannot be written in the asked format."""


class EquivalenceError(EdgepressError):
    """An exported file does not compute what the candidate computes."""


class MissingExtraError(EdgepressError):
    """A part of edgepress that was not installed is needed; the message has the pip command."""


class OutputError(EdgepressError):
    """An output path cannot be written without losing something."""


class RecipeError(EdgepressError):
    """A recipe is not found or not a recipe."""


class DeviceError(EdgepressError):
    """A device did not answer in time, or a command on it failed."""


class ReportError(EdgepressError):
    """A report.json is missing, damaged, of another schema or contradicts itself."""


# Escape sequences that colour a terminal (ECMA-48, section 5.4): torch's exporter writes them.
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, its repr where it says nothing; 300 letters.

    For libraries that explain their inside for pages after it. Colours are left out.
    """
    return next(iter(_COLOURS.sub("", str(error)).strip().splitlines()), repr(error))[:300]


def one_line(error: Exception) -> str:
    """All that a library's error says, in one line of at most 300 letters, without colours."""
    return " ".join(_COLOURS.sub("", str(error)).split())[:300]
