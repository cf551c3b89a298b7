"""The form of a net after a stage, without the training that the stage would do.

Sizes, operations and latency do not depend on the values that training finds. A stage that trains,
or that works long for better values only, says by a method what gives a net of the same form at
once; a stage that wraps others passes it on to them. A stage without the method runs as it is.

A net that is pruned and not trained again answers at random. A stage that chooses by the net's
answers would choose otherwise there: it says `judges: ClassVar[bool] = True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from compress.stage import Stage

Stages = Stage | tuple[Stage, ...]


def untrained(stage: Stage) -> tuple[Stage, ...]:
    """Stages that give the form which `stage` gives, without training: by its own
    `untrained(self) -> Stage | tuple[Stage, ...]`, or the stage itself.
    """
    own = cast("Callable[[], Stages] | None", getattr(stage, "untrained", None))
    if own is None:
        return (stage,)
    found = own()
    return found if isinstance(found, tuple) else (found,)


def untrained_all(stages: Stages) -> tuple[Stage, ...]:
    """The same of a field that holds one stage or several."""
    given = stages if isinstance(stages, tuple) else (stages,)
    return tuple(form for stage in cast("tuple[Any, ...]", given) for form in untrained(stage))


def judges(stage: Stage) -> bool:
    """Whether what `stage` makes depends on how well the net answers."""
    return bool(getattr(stage, "judges", False))
