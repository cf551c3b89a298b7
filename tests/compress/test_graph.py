"""Names of activation tensors: parsed back, the same each time, one for each value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.edit import FoldedBatchNorm, rebuild
from compress.errors import ExportError
from compress.graph import Graph, TensorId
from compress.graph_runner import GraphRunner
from compress.network import TorchNetwork
from compress.trace import trace
from tests.candidates import fresh
from tests.nets import digits_branch_spec, digits_residual_spec

NAMES = st.from_regex(r"[A-Za-z_0-9]+(\.[A-Za-z_0-9]+)*", fullmatch=True)
IDS = st.builds(
    TensorId,
    module=st.one_of(st.just(""), NAMES),
    operator=st.from_regex(r"[a-z_0-9]+", fullmatch=True),
    occurrence=st.integers(0, 10**8),
    output=st.one_of(st.none(), st.integers(0, 1000)),
)


class Function(nn.Module):
    """A net that is one function, with a 2-to-2 convolution at hand."""

    def __init__(self, function: Callable[[Function, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(2, 2, 1)
        self.drop = nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def traced(function: Callable[[Function, torch.Tensor], torch.Tensor]) -> Graph:
    return trace(Function(function).eval(), (1, 2, 4, 4))


def names(graph: Graph) -> list[str]:
    return [str(node.id) for node in graph.nodes]


@given(IDS)
def test_names_survive_text(tensor: TensorId) -> None:
    assert TensorId.parse(str(tensor)) == tensor


@pytest.mark.parametrize(
    "text",
    [
        *("", "relu", "a/relu", "a/relu#", "a/relu#x", "a/relu#0\n", "a/b/c#0", "a/relu#0:"),
        *("a/#0", "a/relu#-1", "a/relu#" + "9" * 5000, "a/relu#٣"),
    ],
)
def test_other_text_is_no_name(text: str) -> None:
    with pytest.raises(ExportError, match="no tensor name"):
        TensorId.parse(text)


@pytest.mark.parametrize("spec", [digits_residual_spec, digits_branch_spec])
def test_names_are_unique_and_equal_between_traces(spec: Callable[[], object]) -> None:
    one, two = fresh(spec), fresh(spec, seed=1)  # type: ignore[arg-type]
    first = names(one.network.graph)
    assert len(set(first)) == len(first)
    assert first == names(two.network.graph)
    assert first[0] == "/input#0"
    assert str(one.network.graph.outputs[0]) == "fc/linear#0"


def test_names_are_those_of_the_residual_net() -> None:
    found = names(fresh(digits_residual_spec).network.graph)
    for name in ("conv1/conv2d#0", "/relu#0", "/add#0", "/relu#1", "/max_pool2d#0", "/mean#0"):
        assert name in found


def test_changed_parameters_keep_the_names() -> None:
    network = fresh(digits_residual_spec).network
    changed = network.with_parameters({"fc.bias": np.ones(10, np.float32)})
    assert names(changed.graph) == names(network.graph)


def test_folding_removes_the_norms_names_and_no_other() -> None:
    edits = [FoldedBatchNorm("stem.0", "stem.1"), FoldedBatchNorm("conv1", "bn1")]
    before = names(fresh(digits_residual_spec).network.graph)
    after = names(trace(rebuild(digits_residual_spec(), edits), (1, 1, 8, 8)))
    gone = {"stem.1/batch_norm#0", "bn1/batch_norm#0"}
    assert after == [name for name in before if name not in gone]


def test_parameters_are_named_by_role() -> None:
    graph = fresh(digits_residual_spec).network.graph
    norm = graph.by_id[TensorId.parse("bn1/batch_norm#0")]
    assert dict(norm.parameters) == {
        role: f"bn1.{role}" for role in ("weight", "bias", "running_mean", "running_var")
    }
    conv = graph.by_id[TensorId.parse("conv1/conv2d#0")]
    assert dict(conv.parameters) == {"weight": "conv1.weight"}  # it has no bias
    assert conv.shape == (1, 16, 8, 8)


def test_each_output_of_a_chunk_has_a_name() -> None:
    graph = traced(lambda net, x: torch.cat([c + 1 for c in net.conv(x).chunk(2, 1)], 1))
    assert names(graph)[2:4] == ["/chunk#0:0", "/chunk#0:1"]
    assert graph.by_id[TensorId("", "chunk", 0, 1)].shape == (1, 1, 4, 4)
    assert graph.by_id[TensorId("", "chunk", 0, 1)].inputs == (TensorId("conv", "conv2d"),)
    sums = (TensorId("", "add", 0), TensorId("", "add", 1))
    assert graph.by_id[TensorId("", "cat")].inputs == sums


def test_a_tensor_added_to_itself_is_read_twice() -> None:
    graph = traced(lambda net, x: F.relu(net.conv(x) + 0) + net.conv(x))
    assert names(graph)[1:] == ["conv/conv2d#0", "/add#0", "/relu#0", "conv/conv2d#1", "/add#1"]
    graph = traced(lambda net, x: (y := net.conv(x)) + y)
    conv = TensorId("conv", "conv2d")
    assert graph.by_id[TensorId("", "add")].inputs == (conv, conv)
    assert [node.id.operator for node in graph.consumers[conv]] == ["add"]


@pytest.mark.parametrize(
    "alias",
    [
        lambda net, x: net.drop(x),
        lambda _, x: F.dropout2d(x, 0.5, training=False),
        lambda _, x: x.contiguous(),
        lambda _, x: x.clone(),
        lambda _, x: x.detach(),
        lambda net, x: net.drop(x).contiguous().clone(),
    ],
)
def test_what_hands_its_input_through_has_no_name_of_its_own(
    alias: Callable[[Function, torch.Tensor], torch.Tensor],
) -> None:
    graph = traced(lambda net, x: F.relu(alias(net, net.conv(x))))
    assert names(graph) == ["/input#0", "conv/conv2d#0", "/relu#0"]
    assert graph.by_id[TensorId("", "relu")].inputs == (TensorId("conv", "conv2d"),)
    ended = traced(lambda net, x: alias(net, net.conv(x)))
    assert ended.outputs == (TensorId("conv", "conv2d"),)


def test_in_place_operators_have_the_plain_operators_name() -> None:
    graph = traced(lambda net, x: F.relu(net.conv(x), inplace=True))
    assert names(graph)[-1] == "/relu#0"


def test_consumers_and_only_readers() -> None:
    graph = traced(lambda net, x: F.relu(y := net.conv(x)) + y)
    conv = TensorId("conv", "conv2d")
    assert [n.id.operator for n in graph.consumers[conv]] == ["relu", "add"]
    assert graph.feeds_only(conv) is None
    relu = graph.feeds_only(TensorId("", "relu"))
    assert relu is not None
    assert relu.id.operator == "add"
    assert graph.feeds_only(graph.outputs[0]) is None  # the caller reads it, too


def test_the_batch_is_free_and_counts_as_one() -> None:
    graph = traced(lambda net, x: net.conv(x).flatten(1))
    assert graph.dynamic_batch
    assert graph.nodes[-1].shape == (1, 32)
    fixed = traced(lambda net, x: net.conv(x).reshape(1, 32) * 2)
    assert not fixed.dynamic_batch
    assert fixed.nodes[-1].shape == (1, 32)
    counted = traced(lambda net, x: net.conv(x).reshape(len(x), -1))
    assert not counted.dynamic_batch  # len is a number, to which torch ties the batch
    assert counted.nodes[-1].shape == (1, 32)


def data_dependent(net: Function, x: torch.Tensor) -> torch.Tensor:
    return net.conv(x) if x.sum() > 0 else x


def test_nets_that_cannot_be_traced_say_so_in_one_line() -> None:
    with pytest.raises(ExportError, match="cannot trace Function") as error:
        traced(data_dependent)
    assert "\n" not in str(error.value)


def test_running_the_graph_gives_what_the_net_gives_and_shows_every_tensor() -> None:
    network = fresh(digits_branch_spec).network
    batch = np.random.default_rng(0).random((5, 1, 8, 8)).astype(np.float32)
    seen = network.activations(batch)
    assert list(seen) == [node.id for node in network.graph.nodes]
    np.testing.assert_allclose(seen[network.graph.outputs[0]], network.predict(batch), atol=1e-5)
    for node in network.graph.nodes:
        assert seen[node.id].size == 5 * np.prod(node.shape)


def test_a_visitor_replaces_what_later_operators_read() -> None:
    graph = traced(lambda net, x: net.drop(net.conv(x)) + 1)
    conv = TensorId("conv", "conv2d")

    def visit(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value) if tensor == conv else value

    out = GraphRunner(graph, visit).run(torch.rand(3, 2, 4, 4))
    assert out.shape == (3, 2, 4, 4)
    assert (out == 1).all()


def test_no_net_changes_its_callers_pictures() -> None:
    network = TorchNetwork(Function(lambda net, x: net.conv(x.relu_())), (1, 2, 4, 4))
    batch = np.full((3, 2, 4, 4), -1, np.float32)
    network.predict(batch)
    network.activations(batch)
    assert (batch == -1).all()
