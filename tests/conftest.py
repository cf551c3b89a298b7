"""Nets that learnt the 8 x 8 digits, trained once a session; see tests.nets and tests.digits."""

from __future__ import annotations

import pytest
from hypothesis import settings

from targets.formats import reweighing
from tests.digits import Trained, trained
from tests.kept_registry import keep_registry
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec

# No deadline for one example: the time it takes says how busy the machine is.
settings.register_profile("edgepress", deadline=None)
settings.load_profile("edgepress")
# A command works on one net; the tests come back to the same few, each of them 40 kB.
reweighing.KEPT_BY_FORM = 12
keep_registry()


@pytest.fixture(scope="session")
def trained_residual() -> Trained:
    """(candidate, task): batch norm, residual add, max-pooling."""
    return trained(digits_residual_spec)


@pytest.fixture(scope="session")
def trained_branch() -> Trained:
    """(candidate, task): channel split, concat, shuffle, depthwise, ReLU6."""
    return trained(digits_branch_spec)


@pytest.fixture(scope="session")
def trained_plain() -> Trained:
    """(candidate, task): linear layers, no batch norm."""
    return trained(digits_plain_spec)


@pytest.fixture(scope="session")
def trained_net(trained_residual: Trained) -> Trained:
    """The usual one: the residual net."""
    return trained_residual
