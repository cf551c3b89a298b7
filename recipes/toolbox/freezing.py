"""Layers that stay as they are, for transfer learning, and nets with another classifier."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from compress.candidate import Candidate
from compress.checkpoint import read_weights
from compress.errors import RangeError
from compress.spec import ModelSpec


@contextmanager
def frozen(model: nn.Module, patterns: Sequence[str]) -> Generator[None]:
    """Keep the modules that `patterns` name, and all inside them, as they are while it lasts.

    Their parameters get no gradient, and they are in eval mode: batch norm uses its running
    statistics and leaves them. A pattern is a module's name with wildcards ('features.*'). Raises
    RangeError for one that matches nothing, or where nothing is left to train.
    """
    chosen = [dict(model.named_modules())[name] for name in _named(model, patterns)]
    parameters = [p for m in chosen for p in m.parameters() if p.requires_grad]
    training = [(m, m.training) for top in chosen for m in top.modules()]
    for module in chosen:
        module.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        if not any(p.requires_grad for p in model.parameters()):
            raise RangeError(f"frozen={tuple(patterns)} leaves nothing to train; freeze fewer")
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module, mode in training:
            module.training = mode


def _named(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names that some pattern matches."""
    # Constrained layers have inner modules that are no names of the net.
    names = [n for n, _ in model.named_modules() if n and "parametrizations" not in n.split(".")]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RangeError(
                f"frozen pattern {pattern!r} matches nothing; the modules are: {', '.join(names)}"
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def with_new_classifier(
    spec: ModelSpec,
    weights: str | Path | Candidate | Mapping[str, NDArray[Any]],
    seed: int = 0,
) -> Candidate:
    """A net of `spec` with all of `weights` but the last layer's, which begins at random.

    For transfer to other classes: the last convolution or linear layer is as the builder makes it
    with `seed`. weights: a .safetensors or .pt file, a candidate without encodings, named arrays.
    Raises CheckpointError naming the first other tensor that differs.
    """
    untrained = Candidate.untrained(spec, seed)
    last = untrained.network.layers()[-1]
    own = untrained.network.state()
    fresh = {n: own[n] for n in (last.weight, last.bias) if n is not None}
    if isinstance(weights, Candidate):
        if weights.encodings or weights.edits:
            raise RangeError(
                "with_new_classifier: the candidate is compressed already; give it as it was before"
            )
        weights = weights.network.state()
    elif not isinstance(weights, Mapping):
        weights = read_weights(Path(weights))
    return Candidate.load(spec, {**weights, **fresh})
