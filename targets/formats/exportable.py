"""What every format that compiles a net asks of a candidate, and what it calls the answer."""

from __future__ import annotations

from compress.candidate import Candidate
from compress.errors import ExportError
from compress.stages.fold_batchnorm import unfolded

OUTPUT = "logits"


def check_folded(candidate: Candidate) -> None:
    """ExportError for encoded weights that a batch norm still scales.

    The converters fold a batch norm into the weights before it, which then no longer are what
    the encoding says.
    """
    norms = unfolded(candidate) if candidate.encodings or candidate.activations else ()
    if norms:
        raise ExportError(
            f"batch norm {norms[0]!r} is not folded, and folding it now would change the encoded "
            f"weights; put FoldBatchNorm first"
        )
