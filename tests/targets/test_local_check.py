"""Each element that parts from the candidate is looked at by itself, where shares mean little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compress.candidate import Candidate
from compress.encoding import Encoded
from compress.graph import TensorId
from compress.simulate import simulate
from targets import local_check
from targets.local_check import Local, local_errors
from tests.digits import digits
from tests.nets import digits_residual_spec
from tests.onnx_files import quantized

PICTURES = digits()["validation"].images[:4]
TENSOR = TensorId("stem.2", "relu", 0)


def coarse() -> tuple[Candidate, np.ndarray, np.ndarray]:
    """A net whose first layer has the multiplier 0.4 in the mean, (what it computes in steps of its
    grid before rounding, the values on the grid)."""
    net = quantized(digits_residual_spec)
    scale = net.activations[TENSOR].scale * float(np.mean(multipliers(net))) / 0.4
    grids = {t: replace(g, scale=scale) if t == TENSOR else g for t, g in net.activations.items()}
    candidate = replace(net, activations=grids)
    found: dict[TensorId, np.ndarray] = {}

    def see(tensor: TensorId, value: torch.Tensor) -> torch.Tensor:
        found[tensor] = value.double().numpy().copy()
        return value

    simulate(candidate).run(torch.from_numpy(PICTURES), see)
    return candidate, found[TENSOR] / scale, simulate(candidate).activations(PICTURES)[TENSOR]


def multipliers(candidate: Candidate) -> np.ndarray:
    """s_x s_w / s_y of the first layer's channels."""
    weight = candidate.encodings["stem.0.weight"]
    assert isinstance(weight, Encoded)
    scales = candidate.activations[TensorId("", "input")].scale * weight.scale.reshape(-1)
    return scales / candidate.activations[TENSOR].scale


def judged(moves: np.ndarray, candidate: Candidate, values: np.ndarray) -> Local:
    """The first layer's judgement of a file that has its `values` so many steps beside."""
    scale = np.float32(candidate.activations[TENSOR].scale)
    tensors = {str(t): v for t, v in simulate(candidate).activations(PICTURES).items()}
    tensors[str(TENSOR)] = (values + moves * scale).astype(np.float32)
    return local_errors(candidate, tensors, PICTURES)[TENSOR]


@pytest.mark.parametrize(
    ("lowest", "right"), [(0.4, True), (0.26, True), (0.1, False), (0.0, False)]
)
def test_an_element_may_part_only_where_a_kernel_may_round_either_way(
    lowest: float, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multiplier in [0.25, 0.5) moves what it rounds by up to a quarter of a step."""
    candidate, steps, values = coarse()

    def none(*_: object) -> float:
        return 0.0

    monkeypatch.setattr(local_check, "_share", none)
    channels = multipliers(candidate)
    quarter = ((channels >= 0.25) & (channels < 0.5))[None, :, None, None]
    fraction = steps - np.floor(steps)
    pushed = quarter & (steps > 0) & (steps < 254) & (fraction < 0.5) & (fraction > lowest)
    assert pushed.any()
    found = judged(pushed.astype(float), candidate, values)
    assert (found.right, found.explained) == (right, right)
    assert found.error == pytest.approx(1, abs=1e-3)


def test_two_steps_are_never_explained() -> None:
    candidate, steps, values = coarse()
    near = (steps > 1) & (steps < 250) & (np.abs(steps - np.floor(steps) - 0.5) < 0.05)
    assert near.any()
    assert not judged(2.0 * near, candidate, values).right


def test_codes_are_found_beside_the_floats_that_they_round() -> None:
    """Behind a layer kept in float a file has both, and floats lie within half a step of all."""
    candidate, steps, values = coarse()
    scale = np.float32(candidate.activations[TENSOR].scale)
    tensors = {str(t): v for t, v in simulate(candidate).activations(PICTURES).items()}
    few = (steps > 1) & (steps < 250) & (np.abs(steps - np.floor(steps) - 0.5) < 0.003)
    assert few.any()
    codes = (values + few * scale).astype(np.float32)
    for order in (("floats", "codes"), ("codes", "floats")):
        both = {"floats": (steps * scale).astype(np.float32), "codes": codes}
        rest = {name: v for name, v in tensors.items() if name != str(TENSOR)}
        found = local_errors(candidate, {name: both[name] for name in order} | rest, PICTURES)
        assert (found[TENSOR].name, found[TENSOR].right) == ("codes", True)
