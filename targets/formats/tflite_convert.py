"""A candidate's net as a float .tflite flatbuffer: litert_torch, made quiet."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch
from torch import nn

from compress.candidate import Candidate
from compress.errors import ExportError, first_line
from compress.extras import need
from targets.formats.exportable import check_folded
from targets.formats.reweighing import reweighed
from targets.formats.tflite_shuffle import may_shuffle, shuffled_last


def float_flatbuffer(candidate: Candidate) -> bytes:
    """The candidate as float32 operators at batch 1, pictures NHWC. ExportError where it cannot."""
    check_folded(candidate)
    form = "tflite, parted" if _needs_parting(candidate) else "tflite"
    return reweighed(candidate, form, lambda: _converted(candidate))


def _needs_parting(candidate: Candidate) -> bool:
    """True where an integer net has hard sigmoids, see `_part_hard_sigmoids`."""
    modules = candidate.network.module().modules()
    return bool(candidate.activations) and any(isinstance(m, nn.Hardsigmoid) for m in modules)


def _converted(candidate: Candidate) -> bytes:
    """The converter called on the net itself."""
    shape = (1, *candidate.spec.input_shape[1:])
    module = candidate.network.module().eval()
    if _needs_parting(candidate):
        _part_hard_sigmoids(module)
    if len(shape) == 4 and may_shuffle(candidate.network.graph):
        module = shuffled_last(module, shape)
    example = torch.zeros(shape)
    with _quiet():
        converter = need("litert_torch", "tflite", "TFLite export")
        try:
            if len(shape) == 4:
                module = converter.to_channel_last_io(module, args=[0]).eval()
                example = example.permute(0, 2, 3, 1).contiguous()
            return bytes(converter.convert(module, (example,)).model_content())
        except Exception as error:  # the converter raises many types, none documented
            name, reason = candidate.spec.name, first_line(error)
            raise ExportError(f"litert_torch cannot convert {name}: {reason}") from error


class _HardSigmoid(nn.Module):
    """Hard sigmoid, that cannot become part of a convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, -3.0, 3.0) / 6.0 + 0.5


def _part_hard_sigmoids(module: nn.Module) -> None:
    """Part hard sigmoids from the convolution before them, whose output needs its own grid.

    The converter makes relu6(x + 3) / 6 of them, and the sum and relu6 part of the convolution.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Hardsigmoid):
                setattr(parent, name, _HardSigmoid())


@contextmanager
def _quiet() -> Generator[None]:
    """Nothing on stdout and stderr, from Python or from C: the converter tells all it does.

    The root logger's handlers are put back: its first log line would leave one behind that
    writes to a stream which is gone by then.
    """
    handlers, level = logging.root.handlers[:], logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    unread = io.StringIO()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, nowhere):
            os.close(descriptor)
        logging.root.handlers[:] = handlers
        logging.disable(level)
