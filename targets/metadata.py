"""What travels inside every exported file: how to feed it, what it answers, what it holds.

One canonical JSON text under the key `edgepress`, the same in every format: equal candidates give
equal text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from compress.errors import DataError, SpecError
from compress.spec import Preprocess, TensorSpec, preprocess_from_dict

if TYPE_CHECKING:
    from compress.candidate import Candidate

KEY = "edgepress"
VERSION = 1
# Longer than any honest text (100,000 class names of 40 letters): a hostile file stops here.
_LONGEST = 8 << 20
_LAYOUTS = ("NCHW", "NHWC", "NC")


@dataclass(frozen=True)
class ArtifactMetadata:
    """The metadata of one file. `inputs` have the layout that the file itself wants.

    `model` is the name of the net, `digest` the candidate's SHA-256, hexadecimal.
    """

    model: str
    digest: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    inputs: tuple[TensorSpec, ...]


def artifact_metadata(candidate: Candidate, inputs: tuple[TensorSpec, ...] | None = None) -> str:
    """Canonical JSON for a file of `candidate` whose inputs are `inputs` (None: the net's own)."""
    own = candidate.spec.inputs if inputs is None else inputs
    raw = {
        "version": VERSION,
        "model": candidate.spec.name,
        "digest": candidate.digest(),
        "classes": list(candidate.spec.classes),
        "preprocess": asdict(candidate.spec.preprocess),
        "inputs": [asdict(spec) for spec in own],
    }
    return json.dumps(raw, sort_keys=True, separators=(",", ":"))


def read_metadata(text: str) -> ArtifactMetadata:
    """The inverse of `artifact_metadata`; DataError for text that is no such metadata."""
    if len(text) > _LONGEST:
        raise DataError(f"edgepress metadata of {len(text):,} letters; at most {_LONGEST:,}")
    try:
        raw = json.loads(text)
        if raw["version"] != VERSION:
            raise DataError(
                f"edgepress metadata of version {raw['version']!r}; {VERSION} is readable: "
                "export the file anew or take a newer edgepress"
            )
        return ArtifactMetadata(
            model=_text(raw["model"]),
            digest=_digest(raw["digest"]),
            classes=tuple(_text(name) for name in _list(raw["classes"])),
            preprocess=preprocess_from_dict(raw["preprocess"]),
            inputs=tuple(_tensor(spec) for spec in _list(raw["inputs"])),
        )
    except SpecError as error:
        raise DataError(f"edgepress metadata is damaged ({error}); export the file anew") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"edgepress metadata is damaged ({error!r}); export the file anew"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return cast("list[Any]", value)


def _digest(value: Any) -> str:
    text = _text(value)
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"digest {text[:80]!r} is no SHA-256")
    return text


def _whole(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 1 << 20:
        raise ValueError(f"{value!r} is no size from 1 to {1 << 20:,}")
    return value


def _choice(value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value


def _tensor(raw: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(_whole(size) for size in _list(raw["shape"]))
    return TensorSpec(
        _text(raw["name"]), shape, _text(raw["dtype"]), _choice(raw["layout"], _LAYOUTS)
    )
