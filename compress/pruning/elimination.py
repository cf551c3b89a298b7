"""What it costs to take inputs from a layer one after another, the rest making good for them.

With A the second moment of a layer's inputs about their mean, which the bias takes over, and G that
of the gradients at its outputs, an error E of its weight W moves the net's answers by about half of
tr(G E A E^T). Without the inputs S the best rest leaves half of tr(G W_S inv(inv(A)_SS) W_S^T): the
optimal brain surgeon for several weights at once (Hassibi and Stork 1993; LeCun's optimal brain
damage has the diagonal of A alone), with outputs weighted by what they matter. Reconstruction
without G: ThiNet (arXiv:1707.06342) and He et al. 2017 (arXiv:1707.06168), section 3.

What is gone stays gone: each step costs O(n^2) for a layer of n inputs. Plain arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Elimination:
    """One layer, m outputs and n inputs (a window's, in a convolution), under way.

    The arrays are its own and change: `weight` (m, n) is that of the best rest.
    """

    def __init__(self, weight: Floats, inputs: Floats, outputs: Floats, damping: float) -> None:
        """inputs: A, (n, n); outputs: G, (m, m); damping: this times A's mean diagonal is added."""
        count = len(inputs)
        level = float(np.trace(inputs)) / max(1, count)
        # A layer that saw one value only loses nothing with any input; any diagonal will do.
        damped = inputs + np.eye(count) * (damping * level if level > 0 else 1.0)
        self.weight = weight.copy()
        self._outputs = outputs.copy()
        self._inverse = np.linalg.inv(damped).astype(np.float64)
        self._worth: Floats = weight.T @ outputs @ weight  # W^T G W

    def losses(self, blocks: Indices) -> Floats:
        """(channels,) nats a picture that go with each row of `blocks`, (channels, k) inputs.

        At least 0; what is gone already costs nothing.
        """
        rows, cols = blocks[:, :, None], blocks[:, None, :]
        inverse, worth = self._inverse[rows, cols], self._worth[rows, cols]
        if blocks.shape[1] == 1:
            held, lost = inverse[:, 0, 0], worth[:, 0, 0]
            found = np.divide(lost, held, out=np.zeros_like(lost), where=held > 0)
            return np.maximum(found, 0.0) / 2
        gone = np.diagonal(inverse, axis1=1, axis2=2) <= 0
        inverse = inverse + np.eye(blocks.shape[1]) * gone[:, None, :]
        found = np.trace(np.linalg.solve(inverse, worth), axis1=1, axis2=2)
        return np.maximum(found, 0.0) / 2

    def drop_inputs(self, gone: Indices) -> None:
        """Take the inputs `gone` away; those left change to do best without them."""
        gone = gone[np.diagonal(self._inverse)[gone] > 0]
        if not len(gone):
            return
        rows = self._inverse[gone]
        share = np.linalg.solve(rows[:, gone], rows)  # the identity at `gone`
        self.weight -= self.weight[:, gone] @ share
        cross = self._worth[:, gone] @ share
        block = self._worth[np.ix_(gone, gone)]
        self._worth += share.T @ (block @ share) - cross - cross.T
        self._inverse -= rows.T @ share
        self._clear(self._inverse, gone)
        self._clear(self._worth, gone)
        self.weight[:, gone] = 0.0

    def drop_outputs(self, gone: Indices) -> None:
        """The outputs `gone` matter no more."""
        own = self.weight[gone]
        if not own.any():
            return
        cross = own.T @ (self._outputs[gone] @ self.weight)
        block = self._outputs[np.ix_(gone, gone)]
        self._worth += own.T @ (block @ own) - cross - cross.T
        self.weight[gone] = 0.0
        self._clear(self._outputs, gone)

    @staticmethod
    def _clear(matrix: Floats, gone: Indices) -> None:
        matrix[gone] = 0.0
        matrix[:, gone] = 0.0


def block_diagonal(groups: Floats) -> Floats:
    """(g, a, b) -> (g * a, g * b), zeros outside the groups: a grouped layer as one whole."""
    count, high, wide = groups.shape
    whole = np.zeros((count, high, count, wide))
    every = np.arange(count)
    whole[every, :, every] = groups
    return whole.reshape(count * high, count * wide)


def about_mean(inputs: Floats, means: Floats, positions: float) -> Floats:
    """Second moments about the mean: what a bias cannot take over. Shapes as in Moments."""
    return inputs - positions * means[:, :, None] * means[:, None, :]


def shrunk(inputs: Floats, samples: float) -> Floats:
    """`inputs`, (g, n, n) from so many samples, its other entries drawn towards 0.

    From fewer samples than inputs each input seems to be a sum of others, so that removing it
    costs nothing. By n / (n + samples): with few samples the diagonal decides (the idea of Ledoit
    and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices").
    """
    count = inputs.shape[1]
    drawn = count / (count + max(1.0, samples))
    return inputs * (1 - drawn * (1 - np.eye(count)))
