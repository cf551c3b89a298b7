"""Several processes, on one machine or more, that train one net: each takes its share of a batch.

Started by a launcher, `torchrun --nproc-per-node 2 -m recipes.cli run RECIPE` or `accelerate
launch`; Accelerate finds the devices, connects the processes and averages their gradients
(torch's DistributedDataParallel). Without a launcher nothing of this is imported.
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from compress.errors import RangeError
from compress.extras import need
from compress.parametrizations import SharedWeight
from recipes.toolbox.batches import Share
from recipes.toolbox.training_device import present

Value = TypeVar("Value")
# The others wait while the first one clusters, scores and writes; a process that dies is noticed
# by the launcher, not by this.
_LONGEST_WAIT = timedelta(days=2)
_SET_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def processes(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the launcher started; 1 without one."""
    if any(name not in environment for name in _SET_BY_LAUNCHERS):
        return 1
    return int(environment["WORLD_SIZE"])


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """True for the one process that writes and prints; also without a launcher."""
    return processes(environment) == 1 or int(environment["RANK"]) == 0


@dataclass(frozen=True)
class Team:
    """The processes that work together, seen from one of them; alone it changes nothing."""

    device: torch.device
    share: Share = field(default_factory=Share)
    accelerator: Any = None

    @staticmethod
    def join(device: str) -> Team:
        """This process's team, on `device`: "cpu", "cuda", "mps", or "auto": the best there is.

        Raises RangeError for a device that is not here, MissingExtraError where a launcher started
        several processes and Accelerate is not installed.
        """
        kind = present(device)
        if processes() == 1:
            return Team(torch.device(kind))
        accelerator = _connect(kind)
        share = Share(accelerator.process_index, accelerator.num_processes)
        return Team(accelerator.device, share, accelerator)

    @property
    def leads(self) -> bool:
        """True for the process that writes and prints."""
        return self.share.index == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model`, on the device; called through what this gives, its gradients are averaged.

        All begin with the first process's parameters and buffers.
        """
        model.to(self.device)
        if self.accelerator is None:
            return model
        for _, buffer in sorted(model.named_buffers()):
            buffer.copy_(_accelerate("accelerate.utils").broadcast(buffer))
        # Once is enough: at each step it would send the masks and indices of encodings, too.
        self.accelerator.ddp_handler = _accelerate().DistributedDataParallelKwargs(
            broadcast_buffers=False, find_unused_parameters=_has_shared(model)
        )
        with warnings.catch_warnings():
            # torch 2.13 would have its new name, which Accelerate does not know yet.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped: nn.Module = self.accelerator.prepare_model(model)
        return wrapped

    def from_first(self, value: Value) -> Value:
        """The first process's `value`, in all of them; plain data and tensors."""
        if self.accelerator is None:
            return value
        held = [value]
        _accelerate("accelerate.utils").broadcast_object_list(held)
        return held[0]

    def average_buffers(self, model: nn.Module) -> None:
        """Batch norm's running statistics become the mean over the processes."""
        if self.accelerator is None:
            return
        for _, buffer in sorted(model.named_buffers()):
            if buffer.is_floating_point():
                buffer.copy_(self.accelerator.reduce(buffer, reduction="mean"))


def _connect(kind: str) -> Any:
    """Accelerate's Accelerator; the processes are connected the first time."""
    accelerate = _accelerate()
    connected = torch.distributed.is_initialized()
    if connected and accelerate.PartialState().device.type != kind:
        raise RangeError(
            f"device={kind!r} was asked for, but the processes work on "
            f"{accelerate.PartialState().device.type!r} already; one run trains on one kind"
        )
    threads = torch.get_num_threads()
    backend = {"cpu": "gloo", "cuda": "nccl"}.get(kind)
    handler = accelerate.InitProcessGroupKwargs(backend=backend, timeout=_LONGEST_WAIT)
    accelerator = accelerate.Accelerator(
        cpu=kind == "cpu", mixed_precision="no", kwargs_handlers=[handler]
    )
    torch.set_num_threads(threads)  # Accelerate may have set its own number
    if accelerator.num_processes != processes():
        raise RangeError(
            f"device={kind!r} does not work with {processes()} processes; those with several are "
            f"cpu and cuda"
        )
    if not connected:
        atexit.register(accelerate.PartialState().destroy_process_group)
    return accelerator


def _accelerate(module: str = "accelerate") -> Any:
    return need(module, "distributed", "training with several processes")


def _has_shared(model: nn.Module) -> bool:
    """Whether some parameter gets no gradient: shared values leave their weights without one."""
    return any(isinstance(module, SharedWeight) for module in model.modules())
