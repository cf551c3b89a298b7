"""A request as JSON in, one line of JSON out: the last on stdout, marked as whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from .answering import answers
from .engine import MissingRuntimeError
from .host import describe
from .measure import measure

# In every answer: a line without it is another's, or was cut short on its way.
END = "edgepress"


def main(arguments: Sequence[str]) -> int:
    """Answer the JSON request: {"describe": true}, or what `answers` or `measure` takes.

    {"error": ...} and status 1 on failure; where the runtime cannot be imported, "missing" names
    its package.
    """
    answer: dict[str, Any]
    try:
        if len(arguments) != 1:
            raise ValueError("give one argument, the request as JSON")
        answer = _answer(json.loads(arguments[0]))
    except MissingRuntimeError as error:
        answer = {"error": str(error)[:500], "missing": error.package}
    # Whatever a runtime raises on a damaged file must come back as the one line of the protocol.
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        answer = {"error": f"{type(error).__name__}: {first[:1000]}"}
    # A line of its own, whatever a runtime left unfinished on stdout.
    sys.stdout.write("\n" + json.dumps({**answer, "end": END}) + "\n")
    return 1 if "error" in answer else 0


def _answer(request: Any) -> dict[str, Any]:
    if request == {"describe": True}:
        return describe()
    return answers(request) if "answers" in request else measure(request)
