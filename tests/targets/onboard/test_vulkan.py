"""Which adapter WebGPU may compute on, by what Vulkan's loader lists."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import pytest

from targets.onboard import vulkan
from targets.onboard.vulkan import Adapter, NoAdapterError, visible

CARD, CHIP = Adapter("Some Card", False), Adapter("Some Chip", False)
LAVAPIPE = Adapter("llvmpipe (LLVM 15)", True)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))


def listed(
    monkeypatch: pytest.MonkeyPatch, adapters: Sequence[Adapter] | None, hides: bool = True
) -> None:
    """A loader that shows `adapters`, and leaves programs out when it is told to, or is too old."""

    def shown() -> list[Adapter] | None:
        if adapters is None:
            return None
        hidden = hides and "lvp" in os.environ.get("VK_LOADER_DRIVERS_DISABLE", "")
        return [each for each in adapters if not (hidden and each.software)]

    monkeypatch.setattr(vulkan, "_adapters", shown)


@pytest.mark.parametrize("allowed", [False, True])
def test_hardware_is_taken_and_programs_beside_it_are_hidden(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    os.environ["VK_LOADER_DRIVERS_DISABLE"] = "*mine*"  # the user's own stays
    listed(monkeypatch, [LAVAPIPE, CARD])
    assert visible(allowed) == CARD
    assert os.environ["VK_LOADER_DRIVERS_DISABLE"] == "*mine*,*lvp*,*swiftshader*"


def test_two_cards_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """WebGPU picks one and does not say which."""
    listed(monkeypatch, [CHIP, CARD])
    assert visible(False) == Adapter("Some Chip or Some Card", False)


def test_a_program_that_cannot_be_hidden_may_have_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed(monkeypatch, [CARD, LAVAPIPE], hides=False)
    found = visible(False)
    assert found is not None
    assert found.software


def test_a_program_alone_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch, [LAVAPIPE])
    with pytest.raises(NoAdapterError, match="the only adapter here is llvmpipe"):
        visible(False)
    assert visible(True) == LAVAPIPE


def test_no_adapter_is_told_from_no_vulkan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    listed(monkeypatch, [])
    with pytest.raises(NoAdapterError, match="Vulkan shows no adapter here"):
        visible(True)
    listed(monkeypatch, None)
    with pytest.raises(NoAdapterError, match=r"Vulkan is missing \(libvulkan"):
        visible(True)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert visible(False) is None
