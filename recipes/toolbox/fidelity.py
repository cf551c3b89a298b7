"""How near a compressed net's answers are to the uncompressed net's, on pictures without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.divergence import divergences
from compress.errors import DataError
from compress.spec import Preprocess
from compress.task import Predict
from recipes.toolbox.scoring import Pixels, outputs_of


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Agreement with a reference, and the divergence of the probabilities from its own.

    `logits`: the reference's outputs, float32 (N, classes); see `Fidelity.to`. Agreement changes
    by whole pictures and hides small losses; the divergence is smooth, so it tells near settings
    apart.
    """

    pixels: Pixels
    logits: NDArray[np.float32]
    preprocess: Preprocess
    what: str = "comparing"

    @staticmethod
    def to(
        reference: Predict, pixels: Pixels, preprocess: Preprocess, what: str = "comparing"
    ) -> Fidelity:
        """Fidelity to `reference`, which is called here, once for each block of pictures."""
        if not len(pixels):
            raise DataError("no pictures to compare the answers on; give some")
        found = [outputs for _, outputs in outputs_of(pixels, preprocess, reference, what)]
        return Fidelity(pixels, np.concatenate(found), preprocess, what)

    def __call__(self, predict: Predict) -> dict[str, float]:
        """{'agreement': in [0, 1], 'kl': nats a picture, 'samples': N}.

        'kl' is the mean of sum p log(p / q), p the softmax of the reference's outputs, q that of
        the answers; infinite where an answer is not a number.
        """
        found = [
            outputs for _, outputs in outputs_of(self.pixels, self.preprocess, predict, self.what)
        ]
        answers = np.concatenate(found)
        theirs = np.nan_to_num(answers).argmax(axis=1)
        same = np.isfinite(answers).all(axis=1) & (theirs == self.logits.argmax(axis=1))
        divergence = float(divergences(self.logits, answers).mean())
        return {"agreement": float(same.mean()), "kl": divergence, "samples": float(len(same))}
