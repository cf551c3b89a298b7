"""Where grids go and which tensors share one, on nets with every rule in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.edit import FoldedBatchNorm, rebuild
from compress.placement import place
from compress.spec import ModelSpec
from compress.trace import trace
from tests.nets import digits_branch_spec, digits_residual_spec

Forward = Callable[["Net", torch.Tensor], torch.Tensor]


class Net(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)
        self.run = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def placed(forward: Forward) -> tuple[list[str], list[list[str]]]:
    placement = place(trace(Net(forward).eval(), (1, 4, 8, 8)))
    return [str(p) for p in placement.points], [sorted(map(str, tie)) for tie in placement.ties]


def test_an_activation_that_alone_reads_a_convolution_fuses_into_it() -> None:
    points, ties = placed(lambda net, x: F.relu6(net.b(F.relu(net.a(x)))))
    assert points == ["/input#0", "/relu#0", points[-1]]
    assert "conv2d" not in points[-1]
    assert ties == []


def test_a_convolution_read_twice_keeps_its_grid() -> None:
    points, _ = placed(lambda net, x: F.relu(y := net.a(x)) + y)
    assert points == ["/input#0", "a/conv2d#0", "/relu#0", "/add#0"]


def test_a_convolution_that_is_an_output_keeps_its_grid() -> None:
    assert placed(lambda net, x: net.a(x))[0] == ["/input#0", "a/conv2d#0"]


def test_an_activation_after_an_add_fuses_and_after_a_pool_does_not() -> None:
    points, ties = placed(lambda net, x: F.relu(x + net.a(x)))
    assert points == ["/input#0", "a/conv2d#0", "/relu#0"]
    assert ties == []
    points, ties = placed(lambda net, x: F.relu(F.max_pool2d(net.a(x), 2)))
    assert points == ["/input#0", "a/conv2d#0", "/max_pool2d#0", "/relu#0"]
    assert ties == [["/max_pool2d#0", "a/conv2d#0"]]


def test_all_parts_of_a_concatenation_share_one_grid() -> None:
    _, ties = placed(lambda net, x: torch.cat([F.relu(net.a(x)), net.b(x)], 1))
    assert ties == [["/cat#0", "/relu#0", "b/conv2d#0"]]


def test_ties_join_through_a_chain_of_moves() -> None:
    def forward(net: Net, x: torch.Tensor) -> torch.Tensor:
        left, right = net.a(x).chunk(2, 1)
        y = torch.cat([right, left], 1).view(-1, 2, 2, 8, 8).transpose(1, 2).flatten(1, 2)
        return net.b(F.pad(y, (1, 1, 1, 1)))

    points, ties = placed(forward)
    assert len(ties) == 1
    assert set(points) - set(ties[0]) == {"/input#0", "b/conv2d#0"}


def test_two_branches_without_a_move_between_stay_apart() -> None:
    _, ties = placed(lambda net, x: F.max_pool2d(net.a(x), 2) + F.avg_pool2d(net.b(x), 2))
    assert ties == [["/avg_pool2d#0", "b/conv2d#0"], ["/max_pool2d#0", "a/conv2d#0"]]


def test_a_mean_rescales_and_is_not_tied() -> None:
    points, ties = placed(lambda net, x: net.fc(net.a(x).mean((2, 3))))
    assert points == ["/input#0", "a/conv2d#0", "/mean#0", "fc/linear#0"]
    assert ties == []


def folded(spec: Callable[[], ModelSpec], pairs: Sequence[tuple[str, str]]) -> nn.Module:
    return rebuild(spec(), [FoldedBatchNorm(*pair) for pair in pairs])


def test_the_residual_net() -> None:
    pairs = [("stem.0", "stem.1"), ("conv1", "bn1"), ("conv2", "bn2"), ("widen.0", "widen.1")]
    placement = place(trace(folded(digits_residual_spec, pairs), (1, 1, 8, 8)))
    assert [str(p) for p in placement.points] == [
        "/input#0",
        "stem.2/relu#0",
        "/relu#0",
        "conv2/conv2d#0",
        "/relu#1",
        "/max_pool2d#0",
        "widen.2/relu#0",
        "/mean#0",
        "fc/linear#0",
    ]
    assert [sorted(map(str, tie)) for tie in placement.ties] == [["/max_pool2d#0", "/relu#1"]]


@pytest.mark.parametrize("unit", ["units.0", "units.2"])
def test_the_split_and_shuffle_net(unit: str) -> None:
    layers = ["stem.0", "last.0"]
    layers += [f"units.{u}.branch.{place}" for u in (0, 2) for place in (0, 3, 5)]
    pairs = [(n, f"{n.rpartition('.')[0]}.{int(n[-1]) + 1}") for n in layers]
    graph = trace(folded(digits_branch_spec, pairs), (1, 1, 8, 8))
    placement = place(graph)
    tie = next(t for t in placement.ties if any(i.module == unit for i in t))
    inside = {str(i) for i in tie}
    assert {f"{unit}/chunk#0:0", f"{unit}/chunk#0:1", f"{unit}/cat#0"} <= inside
    assert f"{unit}.branch.7/relu#0" in inside  # the branch's end is concatenated
    assert f"{unit}.branch.2/relu#0" not in inside  # its middle is not
    points = set(placement.points)
    assert all(member in points for member in tie)
    # Both units and the pool between them only move values: one grid for all of them.
    (head,) = [t for t in placement.ties if t != tie]
    assert sorted(map(str, head)) == ["/adaptive_avg_pool2d#0", "/flatten#0"]
