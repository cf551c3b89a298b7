"""Imported nets by the content of their files, so that stages can build the empty net anew.

A specification names an imported net by its file's stem and SHA-256, not by its path: equal files
give equal candidates wherever they lie, and no path of a machine travels in a shipped file.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from compress.errors import SpecError

BUILDER = f"{__name__}:imported"
_TEMPLATES: dict[str, nn.Module] = {}


def remember(sha256: str, net: nn.Module) -> None:
    """Keep the structure of `net`, without its values, for `imported`."""
    with torch.device("meta"):
        _TEMPLATES[sha256] = copy.deepcopy(net).to("meta")


def imported(name: str, sha256: str) -> nn.Module:
    """The empty net (all zeros) of a file that was opened in this process.

    Raises SpecError where it was not: the structure is in the file alone.
    """
    if sha256 not in _TEMPLATES:
        raise SpecError(
            f"the net {name!r} was imported from a file (SHA-256 {str(sha256)[:16]}...) that is "
            f"not open; open that very file first (compress.importing.opening.open_model)"
        )
    net = copy.deepcopy(_TEMPLATES[sha256]).to_empty(device=torch.get_default_device())
    for tensor in net.state_dict().values():
        tensor.zero_()
    return net.eval()
