"""A net whose channels are scaled where they are written, and back where they are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.channel_groups import ChannelGroups
from compress.encoding import Encoded, Encoding
from compress.errors import EncodingError

Floats = NDArray[np.float64]


def scaled_channels(candidate: Candidate, groups: ChannelGroups, scale: Floats) -> Candidate:
    """Outputs of layers divided by the `scale` of their groups, inputs multiplied by it.

    scale: (groups,), above 0 and 1 where a group is fixed. Encodings follow: zeros stay, codes too,
    their scales take the factors. EncodingError where an encoded weight reads scaled channels and
    is not depthwise.
    """
    values: dict[str, NDArray[np.float32]] = {}
    encodings: dict[str, Encoding] = {}
    for layer in candidate.network.layers():
        if layer.weight not in groups.reads:
            continue
        rows = 1 / scale[groups.writes[layer.weight]]
        columns = scale[groups.reads[layer.weight]].reshape(layer.groups, -1)
        if (rows == 1).all() and (columns == 1).all():
            continue
        wide = np.repeat(columns, layer.shape[0] // layer.groups, axis=0)
        for name, factor in ((layer.weight, rows[:, None] * wide), (layer.bias, rows)):
            if name is not None:
                values[name], encoding = _times(candidate, name, factor)
                if encoding is not None:
                    encodings[name] = encoding
    return candidate.with_values(values, encodings)


def _times(
    candidate: Candidate, name: str, factor: Floats
) -> tuple[NDArray[np.float32], Encoding | None]:
    """A parameter times a factor of its first axes, and its encoding after that."""
    own = candidate.network.parameters()[name].astype(np.float64)
    shape = factor.shape + (1,) * (own.ndim - factor.ndim)
    encoding = candidate.encodings.get(name)
    if isinstance(encoding, Encoded):
        by_output = factor.reshape(len(own), -1)
        if (by_output != by_output[:, :1]).any():
            raise EncodingError(f"{name} is encoded: it has no scale for each input channel")
        encoding = encoding.scaled(0, by_output[:, 0].astype(np.float32))
    return (own * factor.reshape(shape)).astype(np.float32), encoding
