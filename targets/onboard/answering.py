"""A file's outputs for given inputs: what is compared with another engine's or device's."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Wanted, find
from .host import describe

_DEFAULTS: Mapping[str, Any] = {
    "engine": "cpu",
    "threads": 1,
    "software_gpu": False,
    "edgepress_path": None,
}
# The outputs travel in the answer's one line.
_MOST_BYTES = 16 << 20


def answers(request: Mapping[str, Any]) -> dict[str, Any]:
    """The first outputs of request["path"] for the inputs in request["answers"], an .npy file.

    Inputs (N, ...) in the type and layout of the file's one input, whose batch is 1; "outputs" is
    a base64 .npy of (N, ...) in the output's own type. Raises ValueError for what does not fit.
    """
    wanted = _checked(request)
    inputs = _inputs(Path(str(wanted["answers"])))
    path = str(wanted["path"])
    engine = find(path, Wanted.of(wanted))
    session = engine.load(path, int(wanted["threads"]))
    _check(inputs, path, engine, session)
    fed = engine.feed(session, np.random.default_rng(0))
    return {
        "runtime": engine.runtime,
        "version": engine.version,
        "provider": fed.provider,
        "untimed": fed.untimed,
        "outputs": _packed(_outputs(inputs, engine, session)),
        "environment": describe(),
        **fed.more(),
    }


def _checked(request: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {**_DEFAULTS, **request}
    if set(wanted) != {*_DEFAULTS, "path", "answers"}:
        raise ValueError(
            f"a request for answers needs 'path' and 'answers' and allows {sorted(_DEFAULTS)}; "
            f"got {sorted(request)}"
        )
    if not Path(str(wanted["path"])).is_file():
        raise FileNotFoundError(f"{wanted['path']} does not exist")
    return wanted


def _inputs(path: Path) -> NDArray[Any]:
    """Mapped, so that a header that promises more than the file holds is refused at once."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        loaded: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path} is no .npy file of numbers ({error})") from error
    if loaded.ndim < 1 or not loaded.size:
        raise ValueError(f"{path} holds no inputs: its shape is {loaded.shape}")
    return loaded


def _check(inputs: NDArray[Any], path: str, engine: Engine, session: Any) -> None:
    taken = engine.takes(session)
    if len(taken) != 1 or taken[0][0][:1] != (1,):
        raise ValueError(f"{path} takes {taken}; one input at batch 1 can be answered")
    (shape, dtype) = taken[0]
    if inputs.shape[1:] != shape[1:] or inputs.dtype != dtype:
        raise ValueError(
            f"{path} takes {dtype}{list(shape)}; the inputs are {inputs.dtype}{list(inputs.shape)}"
        )


def _outputs(inputs: NDArray[Any], engine: Engine, session: Any) -> NDArray[Any]:
    found: list[NDArray[Any]] = []
    for i in range(len(inputs)):
        found.append(np.array(engine.answer(session, np.ascontiguousarray(inputs[i : i + 1]))))
        if found[0].nbytes * len(inputs) > _MOST_BYTES:
            raise ValueError(
                f"{len(inputs)} outputs of {found[0].nbytes} bytes are more than {_MOST_BYTES}; "
                f"give fewer inputs"
            )
    return np.concatenate(found)


def _packed(values: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
