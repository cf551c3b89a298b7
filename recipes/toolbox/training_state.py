"""What a training keeps after each epoch, and reads again where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.atomic import atomic_path
from compress.errors import CheckpointError
from recipes.toolbox.optimizing import Optimizing

State = dict[str, Any]


def keep(path: Path, model: nn.Module, optimizing: Optimizing, epochs_done: int) -> None:
    """Write the state after `epochs_done` epochs, whole or not at all."""
    state = {"epoch": epochs_done, "model": model.state_dict(), **optimizing.state()}
    with atomic_path(path) as aside:
        torch.save(state, aside)


def read_state(path: Path, epochs: int) -> State:
    """What `keep` wrote, of a training of `epochs`; CheckpointError where it is anything else."""
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        epoch = state["epoch"]
        if type(epoch) is not int or not 1 <= epoch <= epochs:
            raise ValueError(f"epoch {epoch!r} of {epochs}")
    except Exception as error:  # torch.load documents no type for a damaged file
        raise _unusable(path, error) from error
    return state


def restore(state: State, path: Path, model: nn.Module, optimizing: Optimizing) -> int:
    """Load `state`, which was read from `path`, and give the next epoch."""
    try:
        model.load_state_dict(state["model"])
        optimizing.restore(state, state["epoch"])
    except Exception as error:  # nor does load_state_dict for states of other nets
        raise _unusable(path, error) from error
    return state["epoch"]


def _unusable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"training state {path} cannot be resumed from ({type(error).__name__}); delete it "
        f"and --resume again: that fine-tune begins anew"
    )
