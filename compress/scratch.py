"""What a stage's own training keeps while it runs, so that a killed one goes on."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn

from compress.atomic import atomic_path
from compress.errors import CheckpointError

# A state is as large as the net three times; what takes less than this is done again.
EVERY_S = 60.0


class Scratch:
    """Keeps `model` and `optimizer` at `path` (None: nowhere) once a minute."""

    def __init__(
        self, path: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self._path, self._model, self._optimizer = path, model, optimizer
        self._kept = time.monotonic()

    def restored(self, steps: int) -> int:
        """The steps done already, of `steps`, their state loaded; CheckpointError for no state."""
        if self._path is None or not self._path.is_file():
            return 0
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            done = state["step"]
            if type(done) is not int or not 1 <= done <= steps:
                raise ValueError(f"step {done!r} of {steps}")
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # torch.load documents no type for a damaged file
            raise CheckpointError(
                f"training state {self._path} cannot be resumed from ({type(error).__name__}); "
                f"delete it and --resume again: that stage begins anew"
            ) from error
        return done

    def keep(self, done: int) -> None:
        """Write the state after `done` steps, whole or not at all, where a minute is over."""
        if self._path is None or time.monotonic() - self._kept < EVERY_S:
            return
        state = {
            "step": done,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        with atomic_path(self._path) as aside:
            torch.save(state, aside)
        self._kept = time.monotonic()
