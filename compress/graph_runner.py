"""Runs a traced net tensor by tensor, so that others may look on or step in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from compress.graph import Graph, TensorId
from compress.trace import is_alias, parameters_of


class GraphRunner(fx.Interpreter):
    """Runs a graph's program, showing each named tensor to `visit`, which may replace it.

    `visit(id, value) -> value` sees every tensor of `graph.nodes` in order. `compute`, if given,
    may do an operator itself: `compute(id, node, args) -> tensor or None` (None: do it as usual).
    """

    def __init__(
        self,
        graph: Graph,
        visit: Callable[[TensorId, torch.Tensor], torch.Tensor],
        compute: Callable[[TensorId, fx.Node, tuple[Any, ...]], torch.Tensor | None] | None = None,
    ) -> None:
        super().__init__(graph.program)
        self.extra_traceback = False  # it would add lines to a visitor's one-line error
        self._ids = graph.ids
        self._known = frozenset(node.id for node in graph.nodes)
        self._visit = visit
        self._compute = compute

    def run_node(self, n: fx.Node) -> Any:
        tensor = self._ids.get(n)
        if tensor is None or (n.op == "call_function" and is_alias(n)):
            return super().run_node(n)
        value: Any = None
        if self._compute is not None and n.op == "call_function":
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            assert not kwargs or "weight" not in parameters_of(n), (
                "exported layers have no keywords"
            )
            value = self._compute(tensor, n, args)
        if value is None:
            value = super().run_node(n)
        seen = tensor in self._known and isinstance(value, torch.Tensor)
        return self._visit(tensor, value) if seen else value
