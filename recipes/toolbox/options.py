"""What the command line gives to a recipe: pictures, weights, a net, a device to train on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from compress.errors import DataError, RecipeError


@dataclass
class Options:
    """Remembers which of them the recipe looked at."""

    recipe: str
    _given: dict[str, Path | None] = field(
        default_factory=dict[str, Path | None], kw_only=True, repr=False
    )
    _net: str | None = field(default=None, kw_only=True)
    _train_on: str | None = field(default=None, kw_only=True)
    _asked: set[str] = field(default_factory=set[str], kw_only=True, repr=False)

    @property
    def data(self) -> Path | None:
        """The folder given with --data; None without one."""
        self._asked.add("--data")
        return self._given.get("--data")

    @property
    def test(self) -> Path | None:
        """The pictures given with --test; None without them."""
        self._asked.add("--test")
        return self._given.get("--test")

    @property
    def weights(self) -> Path | None:
        """The file given with --weights; None without one."""
        self._asked.add("--weights")
        return self._given.get("--weights")

    @property
    def net(self) -> str | None:
        """The name given with --net; None without one."""
        self._asked.add("--net")
        return self._net

    @property
    def train_on(self) -> str:
        """The device given with --train-on; "cpu" without one."""
        self._asked.add("--train-on")
        return self._train_on or "cpu"

    def give(
        self,
        *,
        data: Path | None = None,
        test: Path | None = None,
        weights: Path | None = None,
        net: str | None = None,
        train_on: str | None = None,
    ) -> None:
        """What the command line gives to the recipe."""
        self._given = {"--data": data, "--test": test, "--weights": weights}
        self._net, self._train_on = net, train_on

    def unasked(self) -> tuple[str, ...]:
        """The options that were given and that the recipe never looked at."""
        given = {**self._given, "--net": self._net, "--train-on": self._train_on}
        return tuple(o for o, value in given.items() if value and o not in self._asked)

    def need_data(self, what: str) -> Path:
        """The folder given with --data, or DataError saying what it must hold."""
        if self.data is None:
            raise DataError(f"recipe {self.recipe} needs data: add --data DIR, {what}")
        return self.data

    def need_test(self, what: str) -> Path:
        """The pictures given with --test, or DataError saying what they must be."""
        if self.test is None:
            raise DataError(f"recipe {self.recipe} needs test pictures: add --test DIR, {what}")
        return self.test

    def need_weights(self, what: str) -> Path:
        """The file given with --weights, or DataError saying what it must be."""
        if self.weights is None:
            raise DataError(f"recipe {self.recipe} needs weights: add --weights FILE, {what}")
        return self.weights

    def choose_net(self, names: Collection[str]) -> str:
        """The one of `names` that was asked for with --net; RecipeError where it is none."""
        if self.net not in names:
            asked = "none" if self.net is None else repr(self.net)
            raise RecipeError(
                f"recipe {self.recipe} needs a net; {asked} was asked for; add --net NAME, one of "
                f"{', '.join(names)}"
            )
        return self.net
