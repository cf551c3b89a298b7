"""The runner's answer in what a process wrote: the last line on stdout, marked as whole."""

from __future__ import annotations

import json
from typing import Any, cast

from targets.device import Completed
from targets.onboard.main import END


def answer_line(completed: Completed) -> dict[str, Any] | None:
    """The answer's fields without the mark; None where the last line is none. Others may precede.

    A runtime may have written to stdout, too, and a link may have been cut.
    """
    try:
        answer: object = json.loads(completed.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None
    fields = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    return fields if fields.pop("end", None) == END else None
