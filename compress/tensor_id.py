"""TensorId: the name of an activation tensor; data only, so that files are read without torch.

(module path, operator, occurrence of that operator in that module, output): the same for every
candidate of one structure and independent of any file format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from compress.errors import ExportError

_TEXT = re.compile(
    r"(?P<module>[^/]*)/(?P<operator>\w+)#(?P<occurrence>[0-9]{1,9})(:(?P<output>[0-9]{1,9}))?"
)


@dataclass(frozen=True, order=True)
class TensorId:
    """One activation tensor: 'features.3/relu#0', or 'stage2/chunk#1:0' for output 0 of several.

    `output` is None for operators with one output. The net's input is '/input#0'.
    """

    module: str
    operator: str
    occurrence: int = 0
    output: int | None = None

    def __str__(self) -> str:
        text = f"{self.module}/{self.operator}#{self.occurrence}"
        return text if self.output is None else f"{text}:{self.output}"

    @staticmethod
    def parse(text: str) -> TensorId:
        """The inverse of str()."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ExportError(f"{text!r} is no tensor name; the form is 'module/operator#0[:0]'")
        output = match["output"]
        number = None if output is None else int(output)
        return TensorId(match["module"], match["operator"], int(match["occurrence"]), number)
