"""A net that trains as it will compute on integers: every tensor with a grid is rounded to it.

The net stays the module that it is, with its parameters and their names; while it trains, its
`forward` runs the canonical program (see graph.py) over its live parameters. What acts otherwise in
training does so here: dropout, and batch norm by the statistics of the batch (until frozen).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from compress.candidate import ActivationQuant, Candidate
from compress.errors import TaskError
from compress.fake_quant import fake_quantized, step_of
from compress.graph import TensorId
from compress.graph_runner import GraphRunner
from compress.trace import is_dropout, module_path, parameters_of

# What the model holds beside its own while it trains, so that its state_dict keeps them.
STEPS = "activation_steps"
FROZEN = "norms_frozen"
# Behind the name of the observer that set a grid.
_LEARNT = ", learnt"
_Norm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


class SimulatedForward:
    """What `model.forward` is while the model trains on the grids of `candidate`.

    With `learn_steps` the model has one more parameter, (groups,) `activation_steps`: for each
    group of tensors that share a grid, ln(step / calibrated step). Zero points stay, and so does
    the grid of the net's input: of pictures it is that of their pixels, which none betters.
    """

    def __init__(self, model: nn.Module, candidate: Candidate, *, learn_steps: bool) -> None:
        self.graph = candidate.network.graph
        self.grids = candidate.activations
        self.group_of = _group_numbers(candidate)
        # By every name: of tied weights the program reads whichever it met first.
        parameters = model.named_parameters(remove_duplicate=False)
        buffers = model.named_buffers(remove_duplicate=False)
        self._own = {n for n, _ in (*parameters, *buffers)}
        for name in (STEPS, FROZEN):
            if hasattr(model, name):
                raise TaskError(f"the net has an attribute {name!r}, which training needs: rename")
        if learn_steps:
            groups = 1 + max(self.group_of.values(), default=-1)
            model.register_parameter(STEPS, nn.Parameter(torch.zeros(groups)))
        if any(node.id.operator == "batch_norm" for node in self.graph.nodes):
            model.register_buffer(FROZEN, torch.tensor(False))
        model.__dict__["forward"] = self
        self.model = model
        self._frozen_at_last = False

    def __call__(self, images: torch.Tensor) -> Any:
        if self.graph.dynamic_batch:
            return self._runner.run(images)
        return torch.cat([self._runner.run(image) for image in images.split(1)])

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedForward:
        """For a copied model: the graph is shared, the copy's own parameters act."""
        other = copy.copy(self)
        other.__dict__.pop("_runner", None)
        other.model = copy.deepcopy(self.model, memo)
        return other

    @cached_property
    def _runner(self) -> _LiveRunner:
        return _LiveRunner(self)

    @property
    def frozen(self) -> bool:
        """Whether batch norms use their running statistics, and leave them, from now on."""
        return bool(getattr(self.model, FROZEN, self._frozen_at_last))

    def freeze_norms(self) -> None:
        """Let them, whatever mode the model is in; nothing where none acts."""
        held = cast("torch.Tensor | None", getattr(self.model, FROZEN, None))
        if held is not None:
            held.fill_(True)

    def holds(self, target: str) -> bool:
        """Whether `target` of the program is a parameter or buffer of the net."""
        return target in self._own

    def on_grid(self, tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        """`value` rounded to the tensor's grid, where it has one."""
        grid = self.grids.get(tensor)
        if grid is None:
            return value
        base = torch.tensor(grid.scale, dtype=torch.float32, device=value.device)
        steps = cast("torch.Tensor | None", getattr(self.model, STEPS, None))
        group = self.group_of.get(tensor)
        learnt = torch.zeros_like(base) if steps is None or group is None else steps[group]
        top = (1 << grid.bits) - 1
        ends = (-grid.zero_point, top - grid.zero_point)
        return fake_quantized(value, base, learnt, ends, value[0].numel())

    def detach(self) -> Mapping[TensorId, ActivationQuant]:
        """Take everything off the model again; the grids as they were learnt."""
        del self.model.__dict__["forward"]
        self._frozen_at_last = self.frozen
        steps = cast("torch.Tensor | None", getattr(self.model, STEPS, None))
        for name in (STEPS, FROZEN):
            if hasattr(self.model, name):
                delattr(self.model, name)
        if steps is None:
            return self.grids
        found = dict(self.grids)
        for tensor, group in self.group_of.items():
            found[tensor] = _learnt(found[tensor], steps.detach().cpu()[group])
        return found


class _LiveRunner(GraphRunner):
    """Runs the program with the parameters that the model has now."""

    def __init__(self, forward: SimulatedForward) -> None:
        super().__init__(forward.graph, forward.on_grid, self._norm)
        self._forward = forward

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self._device = cast("torch.Tensor", args[0]).device
        return super().run(*args, **kwargs)

    def fetch_attr(self, target: str) -> Any:
        if self._forward.holds(target):
            path, _, name = target.rpartition(".")
            return getattr(self._forward.model.get_submodule(path), name)
        constant = super().fetch_attr(target)
        return constant.to(self._device) if isinstance(constant, torch.Tensor) else constant

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_function" or not is_dropout(n):
            return super().run_node(n)
        (value, share, *_), _ = self.fetch_args_kwargs_from_env(n)
        holder = self._forward.model.get_submodule(module_path(n))
        return cast("Any", n.target)(value, share, holder.training)

    def _norm(self, tensor: TensorId, node: fx.Node, args: tuple[Any, ...]) -> torch.Tensor | None:
        """A batch norm as its module computes it; None for all else."""
        name = parameters_of(node).get("running_mean")
        if tensor.operator != "batch_norm" or name is None:
            return None
        norm = self._forward.model.get_submodule(name.rpartition(".")[0])
        if not isinstance(norm, _Norm):
            return None
        if not self._forward.frozen:
            return norm(args[0])
        return F.batch_norm(
            args[0], norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )


def _group_numbers(candidate: Candidate) -> dict[TensorId, int]:
    """Which entry of the steps each tensor has whose step may be learnt; those tied have one."""
    first = {tensor: min(tie) for tie in candidate.ties for tensor in tie}
    groups = {tensor: first.get(tensor, tensor) for tensor in candidate.activations}
    of_inputs = {group for tensor, group in groups.items() if tensor.operator == "input"}
    kept = [group for group in dict.fromkeys(groups.values()) if group not in of_inputs]
    numbers = {group: number for number, group in enumerate(kept)}
    return {tensor: numbers[group] for tensor, group in groups.items() if group in numbers}


def _learnt(grid: ActivationQuant, learnt: torch.Tensor) -> ActivationQuant:
    if not float(learnt):
        return grid
    step = float(step_of(torch.tensor(grid.scale, dtype=torch.float32), learnt))
    observer = grid.observer.removesuffix(_LEARNT) + _LEARNT
    return replace(grid, scale=step, observer=observer)
