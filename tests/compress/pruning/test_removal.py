"""Channels removed: what is left answers as the whole net does when nothing reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from compress.checkpoint import load_candidate, save_candidate
from compress.edit import edit_from_dict, edit_to_dict
from compress.errors import RangeError
from compress.pruning.coupled import CoupledSet
from compress.pruning.masked import masked
from compress.pruning.planning import likely_counts, planned
from compress.pruning.removal import remove
from compress.pruning.structure import coupled_sets
from tests.cut_nets import own_net
from tests.cuts import cut, pictures, random_kept, whole
from tests.every_net import builders

FREE = ("Gated", "Squeezed", "Scaled", "Twice", "Fans", "Pixels", "Attended", "Padded", "Buffered")


def by_name(candidate: Candidate) -> dict[str, CoupledSet]:
    return {one.name: one for one in coupled_sets(candidate)[0]}


@pytest.mark.parametrize("name", [*builders(), *FREE, "channels_last"])
def test_what_is_left_answers_as_the_whole_net_with_those_channels_unread(name: str) -> None:
    candidate, (smaller, kept) = whole(name), cut(name)
    sets = by_name(candidate)
    unread = masked(candidate, list(sets.values()), kept)
    wanted, found = unread.predict(pictures(candidate)), smaller.predict(pictures(candidate))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    # The cut is none that changes nothing.
    assert np.abs(candidate.predict(pictures(candidate)) - wanted).max() > 1e-3 * wanted.std()
    smaller.check()
    free = sum(one.channels for one in sets.values())
    assert 0.6 * free < sum(map(len, kept.values())) < 0.8 * free
    sizes = [sum(p.size for p in c.network.parameters().values()) for c in (candidate, smaller)]
    assert sizes[1] < 0.75 * sizes[0]


@pytest.mark.parametrize("name", ["resnet20", "shufflenet_v2"])
def test_the_edits_are_data_that_another_process_could_replay(name: str, tmp_path: Path) -> None:
    smaller, _ = cut(name)
    assert tuple(edit_from_dict(edit_to_dict(edit)) for edit in smaller.edits) == smaller.edits
    save_candidate(smaller, tmp_path / "net.safetensors")
    again = load_candidate(tmp_path / "net.safetensors")
    assert again.digest() == smaller.digest()
    np.testing.assert_array_equal(
        again.predict(pictures(smaller)), smaller.predict(pictures(smaller))
    )


ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from compress.checkpoint import load_candidate
from tests.cut_nets import own_net
from tests.every_net import builders, smallest
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    spec = smallest(path.stem) if path.stem in builders() else own_net(path.stem).spec
    held = np.load(path.with_suffix(".npz"))
    np.testing.assert_array_equal(load_candidate(path, spec).predict(held["x"]), held["y"])
    print(path.stem)
assert not {name for name in sys.modules if name.startswith("compress.pruning")}
"""


def test_every_net_reloads_in_a_fresh_process_that_knows_nothing_of_pruning(tmp_path: Path) -> None:
    names = [*builders(), "Padded"]
    for name in names:
        smaller, _ = cut(name)
        save_candidate(smaller, tmp_path / f"{name}.safetensors")
        x = pictures(smaller)
        np.savez(tmp_path / f"{name}.npz", x=x, y=smaller.predict(x))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == sorted(names)


@pytest.mark.parametrize("name", ["lenet5", "Padded", "Gated"])
def test_a_net_that_was_cut_can_be_cut_again(name: str) -> None:
    once, _ = cut(name)
    kept = random_kept(once, 0.5, seed=2)
    twice = remove(once, kept)
    unread = masked(once, coupled_sets(once)[0], kept)
    wanted = unread.predict(pictures(once))
    np.testing.assert_allclose(
        twice.predict(pictures(once)), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
    )
    assert len(twice.edits) > len(once.edits)
    # The graph that was handed on is the one that a trace gives.
    own = Candidate(twice.spec, twice.network.with_parameters({}), twice.edits)
    fresh = Candidate.load(twice.spec, whole(name).network.module())
    assert [n.id for n in own.network.graph.nodes] == [n.id for n in fresh.network.graph.nodes]


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "shufflenet_v2"])
def test_nothing_removed_is_the_same_net(name: str) -> None:
    candidate = whole(name)
    kept = {one.name: np.arange(one.channels) for one in coupled_sets(candidate)[0]}
    assert remove(candidate, kept).digest() == candidate.digest()
    assert remove(candidate, {}).digest() == candidate.digest()


@pytest.mark.parametrize("name", ["lenet5", "Padded", "resnet20"])
def test_channels_that_give_nothing_can_go_without_a_trace(name: str) -> None:
    """Weights, biases and norms of the removed channels are zero: the outputs stay."""
    kept = cut(name)[1]
    silent: dict[str, np.ndarray] = {}
    state = whole(name).network.state()
    for one in coupled_sets(whole(name))[0]:
        gone = np.setdiff1d(np.arange(one.channels), kept[one.name])
        for tensor, axis in one.slots:
            if axis == 0 and not tensor.endswith("running_var"):
                values = silent.setdefault(tensor, np.array(state[tensor]))
                values[one.indices((tensor, axis), gone)] = 0
    quiet = whole(name).with_values(silent, {})
    before = quiet.predict(pictures(quiet))
    after = remove(quiet, kept).predict(pictures(quiet))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


SETS = {
    "Gated": {"conv": (6, ("conv",)), "stem": (12, ("stem",)), "head": (8, ("head",))},
    "Squeezed": {"stem": (12, ("stem", "up")), "down": (4, ("down",)), "head": (8, ("head",))},
    "Twice": {"stem": (12, ("stem", "conv")), "head": (8, ("head",))},
    "Fans": {"stem": (12, ("stem", "fan")), "head": (8, ("head",))},
    "Pixels": {"stem": (3, ("stem",)), "head": (8, ("head",))},
    "Attended": {"stem": (12, ("stem",)), "head": (8, ("head",))},
    "Padded": {"stem": (12, ("stem", "conv")), "conv": (8, ("conv",)), "head": (8, ("head",))},
    "PaddedByHand": {"stem": (12, ("stem", "conv")), "head": (8, ("head",))},
    "Baked": {"stem": (12, ("stem",)), "wide": (12, ("wide",)), "head": (8, ("head",))},
    "Soft": {"head": (8, ("head",))},
    "Tied": {"head": (8, ("head",))},
    "Folded": {"wide": (12, ("wide",)), "head": (8, ("head",))},
}


@pytest.mark.parametrize("name", SETS)
def test_which_channels_go_together(name: str) -> None:
    found = {one.name: (one.channels, one.layers) for one in coupled_sets(whole(name))[0]}
    assert found == SETS[name]


REASONS = {
    "PaddedByHand": ("conv", "adds 4 and 4 channels of zeros, which no attribute"),
    "Baked": ("conv", "the net does not run with fewer: shape"),
    "Soft": ("stem", "softmax acts on all channels at once"),
    "Tied": ("one", "its weight is another layer's, too"),
    "Attended": ("mask", "it acts on every channel of another tensor"),
    "Gated": ("fc", "its outputs are the net's"),
    "Folded": ("stem", "conv2d acts on all channels at once"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_must_stay_has_a_reason(name: str) -> None:
    layer, reason = REASONS[name]
    reasons = {skip.layer: skip.reason for skip in coupled_sets(whole(name))[1]}
    assert reason in reasons[layer]
    assert "\n" not in reasons[layer]


def test_every_layer_of_a_net_that_folds_into_the_batch_has_its_own_reason() -> None:
    reasons = {skip.layer: skip.reason for skip in coupled_sets(whole("Folded"))[1]}
    assert reasons["filters"] == "it reads the net's input"
    assert "acts on all channels" in reasons["each"]
    assert reasons.keys() == {"filters", "stem", "each", "fc"}


@pytest.mark.parametrize("name", ["PaddedByHand", "Baked", "Folded"])
def test_the_rest_of_such_a_net_is_cut_all_the_same(name: str) -> None:
    candidate, (smaller, kept) = own_net(name), cut(name)
    wanted = masked(whole(name), coupled_sets(whole(name))[0], kept).predict(pictures(candidate))
    found = smaller.predict(pictures(candidate))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert smaller.edits


def test_a_net_that_computes_with_its_width_is_refused() -> None:
    candidate = own_net("Counting")
    with pytest.raises(RangeError, match="computes with their number") as error:
        remove(candidate, random_kept(candidate, 0.5))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kept", "wrong"),
    [
        ({"nope": [0]}, "set 'nope' is not one of the net; they are: stem"),
        ({"head": []}, "different ones from 0 to 7 in rising order"),
        ({"head": [3, 3]}, "different ones"),
        ({"head": [4, 3]}, "rising order"),
        ({"head": [8]}, "from 0 to 7"),
        ({"head": [-1]}, "from 0 to 7"),
    ],
)
def test_wrong_channels_are_refused_in_one_line(kept: dict[str, list[int]], wrong: str) -> None:
    with pytest.raises(RangeError, match=wrong) as error:
        remove(own_net("Gated"), {name: np.array(k, np.int64) for name, k in kept.items()})
    assert "\n" not in str(error.value)


def test_of_each_class_as_many_as_the_shuffle_takes() -> None:
    candidate = whole("shufflenet_v2")
    sets = {one.name: one for one in coupled_sets(candidate)[0] if one.classes.any()}
    assert sets
    kept = dict(cut("shufflenet_v2")[1])
    for name, one in sets.items():
        likely = likely_counts([one], {name: len(kept[name])})[name]
        assert likely.sum() == len(kept[name])
        exact = np.bincount(one.classes[kept[name]], minlength=len(likely))
        assert np.abs(likely - exact).max() <= 1
    name, one = next(iter(sets.items()))
    first = np.flatnonzero(one.classes == 0)
    others = np.flatnonzero(one.classes != 0)
    kept[name] = np.sort(np.r_[first, others][: len(kept[name])])
    with pytest.raises(RangeError, match="of its classes, and the net takes"):
        remove(candidate, kept)


def test_numbers_that_a_shuffle_does_not_take_become_near_ones() -> None:
    candidate = own_net("Padded")
    plan = planned(candidate, {"conv": 5, "stem": 11})
    assert plan.numbers == {"stem": 11, "conv": 4, "head": 8}
    candidate = whole("shufflenet_v2")
    bundles = [one for one in coupled_sets(candidate)[0] if one.bundle != one.name]
    uneven = {one.name: one.channels - 3 for one in bundles[:1]}
    numbers = planned(candidate, uneven, whole=False).numbers
    for one in bundles:
        mate = next(o for o in coupled_sets(candidate)[0] if o.name == one.bundle)
        assert numbers[one.name] * mate.channels == numbers[mate.name] * one.channels
