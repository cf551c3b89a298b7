"""torchvision's data sets as pictures, where torchvision is installed.

It is no extra of edgepress: a build that does not match torch's own breaks at import, so whoever
has torchvision has chosen it together with torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError, MissingExtraError
from recipes.pictures.sources import Labels, check_labels


class TorchvisionSet(Protocol):
    """What the data sets for classification have in common: item i is (picture, class number)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class TorchvisionPictures:
    """An instance of a class of torchvision.datasets, made without transform.

    Labels come from its `targets` or `labels`, else by reading every item once. Raises DataError
    where items are not (picture, class number), or a label is no class of `classes`.
    """

    dataset: TorchvisionSet
    classes: tuple[str, ...] = ()
    labels: Labels = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.dataset):
            raise DataError(f"{self._kind}: no picture; give another split or root")
        object.__setattr__(self, "labels", self._labels())

    @property
    def _kind(self) -> str:
        return type(self.dataset).__name__

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        return f"{self._kind}, picture {index}"

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB, or (H, W) grey."""
        picture = self._item(index)[0]
        if not hasattr(picture, "convert"):
            raise DataError(
                f"{self.name(index)}: {type(picture).__name__}, expected one of Pillow's pictures; "
                f"make the data set without transform"
            )
        return np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        if not isinstance(item, tuple) or len(item) != 2:
            raise DataError(
                f"{self.name(index)}: {type(item).__name__}, expected (picture, class number); "
                f"give a data set for classification"
            )
        return item

    def _labels(self) -> Labels:
        known = getattr(self.dataset, "targets", getattr(self.dataset, "labels", None))
        if known is None or len(known) != len(self.dataset):
            known = [self._item(index)[1] for index in range(len(self.dataset))]
        found = np.asarray(known)
        if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
            raise DataError(
                f"{self._kind}: labels of type {found.dtype}, shape {found.shape}, expected one "
                f"class number a picture; give a data set for classification"
            )
        return check_labels(found.astype(np.int64), len(self.classes) or None, self._kind)


def torchvision_pictures(
    name: str, root: Path, classes: Sequence[str] = (), **options: Any
) -> TorchvisionPictures:
    """`torchvision.datasets.<name>(root, **options)`: ('CIFAR10', root, train=False).

    Nothing is downloaded unless `options` say so. `classes`: the net's names; else the data set's
    own. Raises MissingExtraError without a torchvision that fits torch, DataError for an unknown
    name, options that it does not take, and files that are not at `root`.
    """
    kinds = _datasets()
    if name not in kinds.__all__:
        raise DataError(f"torchvision has no data set {name!r}; it has {', '.join(kinds.__all__)}")
    try:
        dataset = getattr(kinds, name)(root=str(root), **options)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{name} at {root}: {reason}; fetch it first (download=True), or mend the options"
        ) from error
    own = getattr(dataset, "classes", ())
    return TorchvisionPictures(dataset, tuple(classes) or tuple(str(label) for label in own))


def _datasets() -> Any:
    try:
        return importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        reason = str(error).partition("\n")[0]
        raise MissingExtraError(
            f"torchvision's data sets need torchvision, built for the torch that is installed "
            f"({reason}); install both together, or give the pictures as folders"
        ) from error
