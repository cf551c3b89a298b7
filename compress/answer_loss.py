"""How far answers lie from a reference's, added up block by block: divergence and SQNR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.divergence import divergences

FloatArray = NDArray[np.float32]


@dataclass
class Noise:
    """Power of a signal and of what another has in its place, added up over blocks."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, wanted: FloatArray, given: FloatArray) -> None:
        """Arrays of one shape; sums in float64."""
        wide = wanted.astype(np.float64).ravel()
        difference = wide - given.ravel()
        self.signal += float(wide @ wide)
        self.noise += float(difference @ difference)

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(signal power / noise power); None where one of them is zero or not finite."""
        if not (0 < self.noise < np.inf and 0 < self.signal < np.inf):
            return None
        return float(10 * np.log10(self.signal / self.noise))


class AnswerLoss:
    """What answers lose against a reference's, over all blocks that were added."""

    def __init__(self) -> None:
        self._noise = Noise()
        self._nats: list[NDArray[np.float64]] = []

    def add(self, wanted: FloatArray, given: FloatArray) -> None:
        """Logits of the same pictures, (N, ...)."""
        self._noise.add(wanted, given)
        self._nats.append(divergences(wanted, given))

    @property
    def sqnr_db(self) -> float | None:
        """Of the logits; None where nothing differs."""
        return self._noise.sqnr_db

    @property
    def divergence(self) -> float:
        """Mean over the pictures, in nats (see divergence.Divergence)."""
        return float(np.concatenate(self._nats).mean())
