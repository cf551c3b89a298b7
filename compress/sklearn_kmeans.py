"""scikit-learn's k-means in the form of compress.kmeans: a slow, well-known oracle."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from compress.kmeans import Clusters


def cluster_with_sklearn(values: NDArray[np.float32], k: int, seed: int) -> Clusters:
    """At most `k` centroids for `values` of any shape, by k-means++ and Lloyd's algorithm.

    Where there are no more than k different values, they are the centroids.
    """
    flat = values.reshape(-1)
    distinct, places = np.unique(flat, return_inverse=True)
    if distinct.size <= k:
        kind = np.uint8 if distinct.size <= 256 else np.uint16
        return Clusters(distinct, places.reshape(values.shape).astype(kind), 0.0)
    from sklearn.cluster import KMeans

    # float64: its float32 sums depend on the number of threads.
    points = flat.astype(np.float64).reshape(-1, 1)
    library: Any = KMeans  # its annotations are wrong: n_init is "auto" or a number
    fitted = library(k, n_init=1, random_state=seed).fit(points)
    labels = cast("NDArray[np.int32]", fitted.labels_)
    centres = cast("NDArray[np.float64]", fitted.cluster_centers_).reshape(-1)
    centroids, order = np.unique(centres.astype(np.float32), return_inverse=True)
    assignments = order.reshape(-1)[labels]
    off = flat.astype(np.float64) - centroids[assignments]
    kind = np.uint8 if centroids.size <= 256 else np.uint16
    return Clusters(centroids, assignments.reshape(values.shape).astype(kind), float(off @ off))
