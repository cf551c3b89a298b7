"""From what people write, a class's name or its number, to the number that the net puts out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from compress.errors import DataError

# Nine digits: no class number is longer, and a text of a million digits costs nothing.
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}(\.0)?")
_SHOWN = 5


def whole(text: str) -> int | None:
    """The integer that `text` is ('7', '7.0' as spreadsheets write it), or None."""
    return int(text.removesuffix(".0")) if _WHOLE.fullmatch(text) else None


class ClassNames:
    """Looks class names up, without regard to case, `_` and surrounding space."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._numbers: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(classes):
            self._numbers[_plain(name)].append(number)

    def number(self, name: str, where: str) -> int:
        """The class's number; DataError, beginning with `where`, for no class or two of a name."""
        found = self._numbers.get(_plain(name), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{where}: {name!r} names {len(found)} of the net's classes ({found}); "
                f"write the number"
            )
        shown = ", ".join(self._classes[:_SHOWN])
        more = f", ... ({len(self._classes)} in all)" if len(self._classes) > _SHOWN else ""
        raise DataError(f"{where}: {name!r} is none of the net's classes: {shown}{more}")

    def knows(self, name: str) -> bool:
        """Whether `name` is a class's, or several classes', name."""
        return _plain(name) in self._numbers

    @property
    def only_numbers(self) -> bool:
        """True where the net's classes are called 0, 1, 2, ...: it does not know their names."""
        return self._classes == tuple(str(number) for number in range(len(self._classes)))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
