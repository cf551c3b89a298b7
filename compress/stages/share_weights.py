"""ShareWeights: each layer's weights take a few shared values.

Han et al. 2016 (arXiv:1510.00149), section 3: k-means on the weights of a layer. Zeros keep a code
of their own, code 0, so that pruning survives; with b bits there are 2**b codes, that one included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from compress.blockwise import look_up
from compress.candidate import Candidate, Skipped
from compress.encoding import Encoded, IndexArray, index_dtype
from compress.errors import RangeError
from compress.kmeans import Clusters, cluster
from compress.stage import StageResult
from compress.stages.layers import check_pairs, check_patterns, choose, numbers, settings_by_layer
from compress.task import Task

MIN_BITS = 2
MAX_BITS = {"optimal": 10, "linear": 16, "sklearn": 10}
Cluster = Callable[[NDArray[np.float32], int], Clusters]


@dataclass(frozen=True)
class ShareWeights:
    """Cluster the non-zero weights of each layer into at most 2**bits - 1 shared values.

    bits: 2 to 10 (16 for "linear"), or (pattern, bits) pairs by layer name or role, of which the
    first that fits counts; a layer that none fits is left alone, with that reason. The paper's
    setting (its tables 3 to 5), 8 for convolutions and 5 for the rest, is (("conv", 8), ("*", 5));
    ("linear", 5) would leave the last layer alone, whose role is "classifier".

    method: "optimal" (least squares, exact), "linear" (the paper's initialisation) or "sklearn".
    Zeros keep code 0 whether pruned or not, and the other codes ascend; a weight becomes zero only
    where its cluster's mean is zero. No more than 2**bits - 1 different non-zero weights come back
    bit for bit. Weights on an integer grid are clustered as integers and stay on it; a weight that
    is shared already is clustered anew, its scale kept.
    """

    bits: int | tuple[tuple[str, int], ...]
    method: Literal["optimal", "linear", "sklearn"] = "optimal"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    changes: ClassVar[Literal["structure", "values"]] = "values"
    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_patterns("ShareWeights", include=self.include, exclude=self.exclude)
        if self.method not in MAX_BITS:
            raise RangeError(
                f"ShareWeights(method={self.method!r}): allowed are {', '.join(MAX_BITS)}"
            )
        if type(self.bits) is not int:
            check_pairs("ShareWeights", "bits", self.bits)
        top = MAX_BITS[self.method]
        for value in numbers(self.bits):
            if type(value) is not int or not MIN_BITS <= value <= top:
                raise RangeError(
                    f"ShareWeights(bits={value!r}, method={self.method!r}): allowed are whole "
                    f"numbers from {MIN_BITS} to {top}"
                )

    def __call__(self, candidate: Candidate, task: Task) -> StageResult:
        layers, skipped = choose(candidate, self.include, self.exclude)
        bits = settings_by_layer(layers, self.bits)
        own = candidate.network.parameters()
        encodings: dict[str, Encoded] = {}
        touched: list[str] = []
        for layer in layers:
            old = candidate.encodings.get(layer.weight)
            known = old if isinstance(old, Encoded) else None
            if layer.name not in bits:
                skipped.append(Skipped(layer.name, "no bits are given for it"))
            elif known is not None and known.codebook.size <= 1 << bits[layer.name]:
                reason = f"it shares {known.codebook.size} values already"
                skipped.append(Skipped(layer.name, reason))
            else:
                start = known if known is not None else plain(own[layer.weight])
                encodings[layer.weight] = shared(start, bits[layer.name], self._cluster(task.seed))
                touched.append(layer.name)
        return StageResult(candidate.with_values({}, encodings), tuple(touched), tuple(skipped))

    def _cluster(self, seed: int) -> Cluster:
        method = self.method
        if method != "sklearn":
            return lambda values, k: cluster(values, k, method)
        from compress.sklearn_kmeans import cluster_with_sklearn

        return lambda values, k: cluster_with_sklearn(values, k, seed)


@dataclass(frozen=True, eq=False)
class Values:
    """Weights before their scale, and how codes for them are to be kept."""

    numbers: NDArray[np.float32]
    zeros: NDArray[np.bool_]


def plain(weight: NDArray[np.float32]) -> Values:
    """A float weight as it is."""
    return Values(weight, weight == 0)


def shared(start: Encoded | Values, bits: int, method: Cluster) -> Encoded:
    """An encoding of at most 2**bits codes; that of an encoded weight keeps its kind and scale."""
    values = start
    if isinstance(start, Encoded):
        values = Values(look_up(start.codebook.astype(np.float32), start.indices), start.zeros())
    assert isinstance(values, Values)
    shape, kept = values.numbers.shape, ~values.zeros
    codebook, indices = np.zeros(1, np.float32), np.zeros(shape, np.uint8)
    if kept.any():
        clusters = method(values.numbers[kept], (1 << bits) - 1)
        centroids = clusters.centroids
        if isinstance(start, Encoded) and start.on_integers:
            centroids = np.clip(np.rint(centroids), -127, 127)
        # Rounding may make neighbours equal, and a mean may be zero: those join code 0.
        found, merged = np.unique(centroids + np.float32(0), return_inverse=True)
        codebook, codes = _with_zero_first(found)
        table = codes[merged.reshape(-1)].astype(index_dtype(codebook.size))
        indices = np.zeros(shape, table.dtype)
        indices[kept] = look_up(table, clusters.assignments)
    indices = cast("IndexArray", indices)
    if isinstance(start, Encoded):
        return replace(start, indices=indices, codebook=codebook.astype(start.codebook.dtype))
    return Encoded(indices, codebook, np.ones(1, np.float32))


def _with_zero_first(found: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(codebook 0, ascending rest; the code of each of `found`)."""
    rest = found[found != 0]
    codes = np.where(found == 0, 0, np.cumsum(found != 0))
    return np.concatenate([np.zeros(1, np.float32), rest]).astype(np.float32), codes
