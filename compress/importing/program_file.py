"""Reading a .pt2 program (torch.export.save) of unknown origin.

`torch.export.load` is not made for that: it unpickles tensors that say so, evaluates symbolic
sizes as Python and looks operators up by any name below `torch`. So the archive is judged first,
and only one of plain tensors, plain sizes and ATen operators is handed to it; compiled code
(AOTInductor) and pickled objects are refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch

from compress.errors import ModelError, first_line, one_line
from compress.importing.onnx_file import LARGEST_BYTES

_PLAIN = re.compile(
    r"[^/]+/("
    r"data/(weights/weight_\d+|constants/tensor_\d+|sample_inputs/model\.pt)"
    r"|data/(weights|constants)/model_(weights|constants)_config\.json"
    r"|models/model\.json|archive_format|archive_version|byteorder|version"
    r"|\.data/\w+|extra/.*)"
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|getitem)")
_SIZE = re.compile(
    r"(Symbol\('[a-z]\d+'(, (positive|nonnegative|integer)=True)*\)"
    r"|Integer\(-?\d+\)|Add|Mul|Mod|FloorDiv|Max|Min|Pow|[\d\s,()*+-])+"
)


def load_program(path: Path) -> tuple[torch.export.ExportedProgram, str]:
    """The program and the file's SHA-256. Raises ModelError for what is not plain."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ModelError(f"{path} has more than {LARGEST_BYTES >> 30} GiB; give a smaller net")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); give a .pt2 file") from error
    level = logging.root.manager.disable
    try:
        _check(path, content)
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(content))
    except ModelError:
        raise
    except Exception as error:  # the loader raises many types, none documented
        raise ModelError(
            f"{path} is no .pt2 program that this torch reads ({first_line(error)}); save it anew "
            f"with torch.export.save of torch {torch.__version__.partition('+')[0]}"
        ) from error
    finally:
        logging.disable(level)
    return program, hashlib.sha256(content).hexdigest()


def _check(path: Path, content: bytes) -> None:
    """ModelError for an archive that is not plain data."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"{path} is no .pt2 file or a truncated one ({one_line(error)}); get it again"
        ) from error
    names = [member.filename for member in members]
    for member in members:
        packed = member.compress_type != zipfile.ZIP_STORED
        if packed or not _PLAIN.fullmatch(member.filename) or names.count(member.filename) > 1:
            raise ModelError(
                f"{path}: its part {member.filename!r} is not one of a plain program; save it with "
                f"torch.export.save, with tensors only"
            )
    for member in members:
        if member.filename.endswith(".json"):
            _check_json(path, json.loads(archive.read(member)))
        elif member.filename.endswith("sample_inputs/model.pt"):
            _check_samples(path, archive.read(member))


def _check_samples(path: Path, content: bytes) -> None:
    """Examples of the input, which torch unpickles where they are more than tensors."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # its own and the unpickler's errors
        raise ModelError(
            f"{path}: its sample inputs are more than plain tensors, and reading them could run "
            f"code; export it with one plain tensor as example"
        ) from error


def _check_json(path: Path, raw: Any) -> None:
    for key, value in _entries(raw):
        plain = {
            "target": lambda v: v is None or bool(_OPERATOR.fullmatch(str(v))),
            "expr_str": lambda v: bool(_SIZE.fullmatch(str(v))),
            "use_pickle": lambda v: v is False,
            "path_name": lambda v: bool(re.fullmatch(r"(weight|tensor)_\d+", str(v))),
            "guards_code": lambda v: v == [],
            "custom_obj_values": lambda v: v == {},
        }.get(key, lambda _: True)
        if not plain(value):
            raise ModelError(
                f"{path}: its {key} {str(value)[:80]!r} is not that of a plain program of ATen "
                f"operators and tensors; export the net without custom operators and objects"
            )


def _entries(raw: Any) -> Iterator[tuple[str, Any]]:
    """All (key, value) pairs at any depth."""
    todo: list[Any] = [raw]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            named = cast("dict[str, Any]", item)
            yield from named.items()
            todo.extend(named.values())
        elif isinstance(item, list):
            todo.extend(cast("list[Any]", item))
