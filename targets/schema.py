"""From untrusted JSON to frozen dataclasses, by their annotations; errors are one line.

Serves `report.py`. Knows str, int, float, bool, None, unions with None, Literal, tuples of one
kind, mappings from str, and dataclasses of those. Fields that the dataclass does not have are
passed over, so that a report with more than schema 1 asks for can be read.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from compress.errors import ReportError

_T = TypeVar("_T")
_NUMBERS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
MOST_BYTES = 64 << 20


def read_json(path: Path) -> object:
    """The JSON value in `path`: at most 64 MiB, no NaN or infinity, no absurd nesting."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ReportError(f"{path} has more than {MOST_BYTES} bytes; it is not a report")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise ReportError(f"cannot read report {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not JSON: {error}") from error


def read_data(path: Path, kind: type[_T], schema: int, reads: str) -> _T:
    """The dataclass that a JSON file of this schema number holds; `reads`: which, for the error.

    ReportError, one line, names the file and the first wrong place in it.
    """
    raw = read_json(path)
    found = raw.get("schema") if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if type(found) is not int or found != schema:
        raise ReportError(f"{path}: schema is {found!r}; this edgepress reads {reads} {schema}")
    try:
        return decode(kind, raw, "")
    except ReportError as error:
        raise ReportError(f"{path}: {str(error).removeprefix(': ')}") from error


def decode(kind: type[_T], raw: object, where: str) -> _T:
    """`raw` as an instance of the dataclass `kind`. ReportError names the place by `where`."""
    if not isinstance(raw, dict):
        raise ReportError(f"{where}: found {_shown(raw)}, an object is needed")
    given = cast("dict[str, object]", raw)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    assert is_dataclass(kind)
    for field in fields(kind):
        if field.name in given:
            values[field.name] = _value(hints[field.name], given[field.name], where, field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ReportError(f"{where}: field {field.name!r} is missing")
    try:
        return cast("_T", kind(**values))
    except ReportError as error:
        raise ReportError(f"{where}: {error}") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not allowed")


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."


def _value(kind: Any, raw: object, where: str, name: str) -> Any:
    place = f"{where}.{name}" if where else name
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), raw, where, name)
    if origin is Literal:
        if raw not in get_args(kind):
            allowed = ", ".join(map(repr, get_args(kind)))
            raise ReportError(f"{place}: found {_shown(raw)}, allowed: {allowed}")
        return raw
    if origin is tuple:
        if not isinstance(raw, list):
            raise ReportError(f"{place}: found {_shown(raw)}, a list is needed")
        items = cast("list[object]", raw)
        return tuple(
            _value(get_args(kind)[0], v, where, f"{name}[{i}]") for i, v in enumerate(items)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(raw, dict):
            raise ReportError(f"{place}: found {_shown(raw)}, an object is needed")
        pairs = cast("dict[str, object]", raw)
        return {k: _value(get_args(kind)[1], v, where, f"{name}[{k!r}]") for k, v in pairs.items()}
    if is_dataclass(kind):
        return decode(cast("type[Any]", kind), raw, place)
    return _scalar(kind, raw, place)


def _union(kinds: tuple[Any, ...], raw: object, where: str, name: str) -> Any:
    """The first member that takes `raw`; its error if there is only one beside None."""
    if raw is None and types.NoneType in kinds:
        return None
    members = [k for k in kinds if k is not types.NoneType]
    for kind in members[:-1]:
        try:
            return _value(kind, raw, where, name)
        except ReportError:
            continue
    return _value(members[-1], raw, where, name)


def _scalar(kind: Any, raw: object, place: str) -> Any:
    fits = type(raw) is kind or (kind is float and type(raw) is int)
    if not fits:
        raise ReportError(f"{place}: found {_shown(raw)}, {_NUMBERS[kind]} is needed")
    if kind is float:
        try:
            number = float(cast("float", raw))
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ReportError(f"{place}: found {_shown(raw)}, a finite number is needed")
        return number
    return raw
