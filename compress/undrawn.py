"""Building a net without drawing its random values, where they are to be overwritten anyway.

A VGG-16 draws 138 million of them, which takes longer than reading its weights, and memory that
is never written to is never taken from the machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# torch.nn.init's functions draw inside themselves, where a mode does not see it.
_DRAWS = frozenset(
    getattr(torch.Tensor, name)
    for name in ("normal_", "uniform_", "bernoulli_", "cauchy_", "exponential_", "log_normal_")
) | frozenset(
    getattr(nn.init, name)
    for name in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_")
)


class Undrawn(TorchFunctionMode):
    """Within it, filling a tensor at random leaves it as it is. torch's generator rests."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        if func in _DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
