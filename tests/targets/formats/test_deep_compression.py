"""The container as a candidate's file: bit for bit there and back, deterministic, hostile-proof."""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from compress.candidate import ActivationQuant, Candidate, Step
from compress.encoding import Encoded, Masked
from compress.errors import ContainerError, EncodingError
from compress.graph import TensorId
from targets.formats.dc_envelope import read_container
from targets.formats.deep_compression import DeepCompressionExporter, load
from tests.candidates import fresh, int8, mixed
from tests.containers import Json, parts, put, sparse_lenet, with_about, write_untraced
from tests.digits import Trained
from tests.forked import Forked
from tests.nets import digits_plain_spec, digits_residual_spec

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "sparse_lenet.v2.dc"
GOLDEN_V1 = ROOT / "tests" / "golden" / "sparse_lenet.v1.dc"


def export(candidate: Candidate, path: Path) -> Path:
    """Writes `path`; what comes back has the candidate's digest."""
    artifact = DeepCompressionExporter()(candidate, path)
    assert artifact.candidate_digest == candidate.digest()
    assert artifact.size_bytes == path.stat().st_size
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return path


@pytest.fixture(scope="module")
def sparse() -> Candidate:
    return sparse_lenet()


@pytest.fixture
def small(sparse: Candidate, tmp_path: Path) -> Path:
    return write_untraced(sparse, tmp_path / "small.dc")


# -- there and back ---------------------------------------------------------------------------


def test_every_part_of_a_candidate_comes_back(tmp_path: Path) -> None:
    """Edits, masks, shared and int8 weights, grids, ties, float layers, settings."""
    candidate = sparse_lenet(grids=True)
    back = load(export(candidate, tmp_path / "c.dc"))
    assert back.digest() == candidate.digest()
    assert back.edits == candidate.edits
    assert back.activations == candidate.activations
    assert back.ties == candidate.ties
    assert back.float_nodes == candidate.float_nodes
    assert [(s.stage, s.settings) for s in back.history] == [
        (s.stage, s.settings) for s in candidate.history
    ]
    picture = np.ones((1, 1, 28, 28), np.float32)
    assert np.array_equal(back.predict(picture), candidate.predict(picture))


def test_a_net_of_the_users_own_needs_its_specification(tmp_path: Path) -> None:
    candidate = mixed(fresh())
    path = write_untraced(candidate, tmp_path / "c.dc")
    assert load(path, digits_plain_spec()).digest() == candidate.digest()
    with pytest.raises(ContainerError, match=r"builder 'tests.nets:digits_plain'; a file may name"):
        load(path)
    with pytest.raises(ContainerError, match="specification that belongs to the other"):
        load(path, digits_residual_spec())


def test_a_specification_handed_in_stands_for_the_files(tmp_path: Path) -> None:
    """A user who moved her code hands in a builder of another name; the digest is the file's."""
    candidate = mixed(fresh())
    moved = replace(candidate, spec=replace(candidate.spec, builder="elsewhere:plain"))
    path = tmp_path / "c.dc"
    write_untraced(candidate, path, spec=json.loads(moved.spec.to_json()), digest=moved.digest())
    assert load(path, digits_plain_spec()).digest() == candidate.digest()


def test_folded_and_trained_nets_come_back(trained_residual: Trained, tmp_path: Path) -> None:
    """Batch-norm statistics and counters before folding, the edit after it."""
    from compress.stages.fold_batchnorm import FoldBatchNorm

    candidate, task = trained_residual
    spec = digits_residual_spec()
    assert load(write_untraced(candidate, tmp_path / "a.dc"), spec).digest() == candidate.digest()
    folded = FoldBatchNorm()(candidate, task)
    folded = getattr(folded, "candidate", folded)
    assert folded.edits
    assert load(write_untraced(folded, tmp_path / "b.dc"), spec).digest() == folded.digest()


@pytest.mark.parametrize("kept", [0.0, 0.3, 1.0])
def test_all_zero_and_all_kept_weights(kept: float, tmp_path: Path) -> None:
    candidate = fresh()
    shape = candidate.network.parameters()["fc1.weight"].shape
    codes = np.random.default_rng(0).integers(1, 900, shape)
    codes = np.where(np.random.default_rng(1).random(shape) < kept, codes, 0).astype(np.uint16)
    book = np.arange(900, dtype=np.float32) - 3
    book[0] = 0
    per_channel = np.linspace(-1, 1, shape[0]).astype(np.float32)
    mask = np.random.default_rng(2).random((10, 40)) < kept
    both = {"fc1.weight": Encoded(codes, book, per_channel, 0), "fc2.weight": Masked(mask)}
    candidate = candidate.with_values({}, both)
    path = write_untraced(candidate, tmp_path / "c.dc")
    assert load(path, digits_plain_spec()).digest() == candidate.digest()


def test_int8_with_the_full_grid_and_with_shared_codes(tmp_path: Path) -> None:
    candidate = fresh()
    shapes = {n: p.shape for n, p in candidate.network.parameters().items()}
    few = int8(shapes["fc2.weight"])
    shared = replace(few, indices=few.indices % 4, codebook=np.array([0, -127, 5, 127], np.int8))
    encodings = {"fc1.weight": int8(shapes["fc1.weight"]), "fc2.weight": shared}
    candidate = candidate.with_values({}, encodings)
    path = write_untraced(candidate, tmp_path / "c.dc")
    back = load(path, digits_plain_spec())
    assert back.digest() == candidate.digest()
    assert {r.name for r in read_container(path).records if r.on_integers} == set(encodings)


def test_a_candidate_that_breaks_its_laws_is_not_written(tmp_path: Path) -> None:
    candidate = mixed(fresh())
    values = candidate.network.parameters()["fc1.weight"]
    network = candidate.network.with_parameters({"fc1.weight": values + 1})
    with pytest.raises(EncodingError):
        DeepCompressionExporter()(replace(candidate, network=network), tmp_path / "c.dc")
    assert list(tmp_path.iterdir()) == []


# -- the same bytes ---------------------------------------------------------------------------


def test_times_and_scores_of_the_history_do_not_change_the_bytes(
    sparse: Candidate, small: Path, tmp_path: Path
) -> None:
    step = sparse.history[0]
    later = replace(step, seconds=99.0, touched=("fc1",), metrics={"top1": 0.5}, digest="x")
    again = write_untraced(replace(sparse, history=(later,)), tmp_path / "again.dc")
    assert again.read_bytes() == small.read_bytes()
    other = replace(sparse, history=(Step("FineTune", "FineTune()", 1.0),))
    assert write_untraced(other, tmp_path / "o.dc").read_bytes() != small.read_bytes()


def write_elsewhere(arguments: list[str]) -> None:
    write_untraced(sparse_lenet(grids=True), Path(arguments[0]))


def test_the_exporter_writes_the_same_from_any_process(tmp_path: Path) -> None:
    """Hash seeds differ, so an order that came from a set or a hash would show."""
    other = Forked(write_elsewhere, tmp_path / "other.dc")
    assert other.communicate(timeout=240) == ("", "")
    here = export(sparse_lenet(grids=True), tmp_path / "here.dc")
    assert (tmp_path / "other.dc").read_bytes() == here.read_bytes()


@pytest.mark.parametrize(("path", "version"), [(GOLDEN_V1, 1), (GOLDEN, 2)])
def test_the_golden_files_are_read(path: Path, version: int) -> None:
    assert load(path).digest() == sparse_lenet(grids=True).digest()
    assert read_container(path).version == version


def test_the_golden_file_is_written_byte_for_byte(tmp_path: Path) -> None:
    """Any change of these bytes is a change of the format: raise VERSION in dc_envelope.py.

    To make the file anew: write_untraced(sparse_lenet(grids=True), GOLDEN).
    """
    if zlib.crc32(zlib.compress(bytes(range(256)) * 9 + b"edgepress" * 99, 9)) != 0xA935014C:
        pytest.skip("another implementation of zlib: it packs the same text in other bytes")
    path = write_untraced(sparse_lenet(grids=True), tmp_path / "golden.dc")
    assert path.read_bytes() == GOLDEN.read_bytes()


def test_version_2_is_a_fraction_of_version_1() -> None:
    assert GOLDEN.stat().st_size < GOLDEN_V1.stat().st_size / 5


# -- hostile files ----------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ContainerError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    return message


def without(name: str) -> Callable[[Json], Json]:
    return lambda about: {k: v for k, v in about.items() if k != name}


@pytest.mark.parametrize(
    "builder",
    [
        "os:system",
        "subprocess:run",
        "compress.models.lenet:nn",
        "compress.models.lenet:torch",
        "compress.models.lenet:LeNet300",
        "compress.models.lenet:digits_spec",
        "compress.models.lenet:_caffe_xavier",
        "compress.models.lenet:__builtins__",
        "compress.models.resnet_cifar:ResNetCifar",
        "compress.models.mobilenet_v2:InvertedResidual",
        "compress.models..x:y",
        "compress.models.:lenet300",
        "compress.models.nowhere:lenet300",
        "compress.models.lenet.os:system",
        "compress.models.lenet:lenet300:x",
        "compress.models.lenet",
        "compress.models:lenet",
        ":",
        "",
        "recipes.cli:main",
    ],
)
def test_a_file_cannot_choose_what_is_run(small: Path, builder: str) -> None:
    def other(about: Json) -> Json:
        about["spec"]["builder"] = builder
        return about

    message = refusal(with_about(small, other))
    assert repr(builder) in message


def test_a_foreign_module_is_not_even_imported(small: Path) -> None:
    def other(about: Json) -> Json:
        about["spec"]["builder"] = "this:s"  # a module of Python that prints a poem
        return about

    assert "this" not in sys.modules
    refusal(with_about(small, other))
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("builder", "kwargs"),
    [
        ("lenet:lenet300", {"classes": 10}),
        ("lenet:lenet300", {"self": 1}),
        ("resnet_cifar:resnet20", {"classes": 10**12}),
        ("resnet_cifar:resnet20", {"classes": -1}),
        ("resnet_cifar:resnet20", {"classes": "10"}),
        ("resnet_cifar:resnet20", {"classes": [10]}),
        ("resnet_cifar:resnet20", {"blocks": 10**9}),
        ("squeezenet:squeezenet1_1", {"classes": 100_000, "in_channels": 64}),
        ("squeezenet:squeezenet1_1", {"small": "yes"}),
        ("squeezenet:squeezenet1_1", {"in_channels": 10**9}),
        ("mobilenet_v2:mobilenet_v2", {"width": 1e9}),
        ("mobilenet_v2:mobilenet_v2", {"width": 4.0, "classes": 100_000}),
        ("mobilenet_v2:mobilenet_v2", {"width": "1"}),
        ("mobilenet_v2:mobilenet_v2", {"width": None}),
        ("shufflenet_v2:shufflenet_v2", {"width": [1]}),
        ("shufflenet_v2:shufflenet_v2", {"width": 3.0}),
    ],
)
def test_hostile_arguments_take_no_memory(small: Path, builder: str, kwargs: Json) -> None:
    """The largest net that arguments may ask for has 0.5 GB; the file's shapes refuse it first."""

    def other(about: Json) -> Json:
        about["spec"] = {**about["spec"], "builder": f"compress.models.{builder}", "kwargs": kwargs}
        return {**about, "edits": []}

    with_about(small, other)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(small)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10  # kB


def test_tensors_that_do_not_belong_to_the_net(sparse: Candidate, tmp_path: Path) -> None:
    from compress.models.lenet import lenet300_spec
    from targets.formats.dc_envelope import write_container
    from targets.formats.deep_compression import _about

    state = sparse.network.state()
    own: dict[str, Any] = {n: (a, sparse.encodings.get(n)) for n, a in state.items()}
    path = tmp_path / "c.dc"

    def refused(tensors: dict[str, Any]) -> str:
        write_container(path, {**_about(sparse), "digest": sparse.digest()}, tensors)
        return refusal(path)

    missing = {n: t for n, t in own.items() if n != "fc3.bias"}
    assert "tensor 'fc3.bias' is missing in the file, but float32 (10,) in" in refused(missing)
    extra = {**own, "more": (np.zeros(2, np.float32), None)}
    assert "tensor 'more' is float32 (2,) in the file, but no tensor in" in refused(extra)
    longer = {**own, "fc3.bias": (np.zeros(11, np.float32), None)}
    assert "'fc3.bias' is float32 (11,) in the file, but float32 (10,)" in refused(longer)
    double = {**own, "fc3.bias": (np.zeros(10), None)}
    assert "'fc3.bias' is float64 (10,) in the file, but float32 (10,)" in refused(double)
    nan = {**own, "fc3.bias": (np.full(10, np.nan, np.float32), None)}
    assert "not finite" in refused(nan)
    bias = {**own, "fc3.bias": (np.zeros(10, np.float32), Masked(np.zeros(10, np.bool_)))}
    assert "digest is" in refused(bias)
    assert lenet300_spec().name in refused(missing)


def test_another_net_of_the_same_shapes(small: Path) -> None:
    """Nothing is damaged, but it is not what was exported."""

    def other(about: Json) -> Json:
        about["spec"]["preprocess"]["mean"] = [0.5]
        return about

    assert "digest is" in refusal(with_about(small, other))


def test_another_digest(small: Path) -> None:
    found = parts(small)
    put(small, {**found, "digest": bytes(8)})
    assert "the file says 0000000000000000" in refusal(small)


@pytest.mark.parametrize(
    "name", ["spec", "edits", "activations", "ties", "float_nodes", "history", "version"]
)
def test_about_without_a_field(small: Path, name: str) -> None:
    refusal(with_about(small, without(name)))


def test_about_with_a_field_more(small: Path) -> None:
    message = refusal(with_about(small, lambda about: {**about, "more": 1}))
    assert "part 'about' is not what was exported" in message


def test_more_edits_than_a_net_has(small: Path) -> None:
    edit = {"kind": "FoldedBatchNorm", "layer": "fc1", "norm": "fc1"}
    message = refusal(with_about(small, lambda about: {**about, "edits": [edit] * 5000}))
    assert "at most 4096" in message


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "Anything", "layer": "fc1"},
        {"kind": "Factorized", "layer": "fc2", "rank": 10**9},
        {"kind": "Factorized", "layer": "fc2", "rank": 0},
        {"kind": "Factorized", "layer": "relu1", "rank": 1},
        {"kind": "Factorized", "layer": "", "rank": 3},
        {"kind": "Factorized", "layer": "__class__", "rank": 3},
        {"kind": "FoldedBatchNorm", "layer": "fc1", "norm": "fc2"},
        {"kind": "FoldedBatchNorm", "layer": "fc1", "norm": ""},
        {"kind": "FoldedBatchNorm", "layer": "nowhere", "norm": "fc2"},
    ],
)
def test_edits_that_do_not_apply(small: Path, edit: Json) -> None:
    assert "edit " in refusal(with_about(small, lambda about: {**about, "edits": [edit]}))


def test_grids_that_are_no_grids(tmp_path: Path) -> None:
    candidate = sparse_lenet(grids=True)
    for grid in (
        ActivationQuant(float("nan"), 0),
        ActivationQuant(float("inf"), 0),
        ActivationQuant(-1.0, 0),
        ActivationQuant(0.0, 0),
        ActivationQuant(1.0, 256),
        ActivationQuant(1.0, -1),
        ActivationQuant(1.0, 0, bits=10**9),
    ):
        broken = replace(candidate, activations={TensorId("fc1", "linear"): grid})
        refusal(write_untraced(broken, tmp_path / "c.dc"))
    elsewhere = {TensorId("nowhere", "relu"): ActivationQuant(1.0, 0)}
    path = write_untraced(replace(candidate, activations=elsewhere), tmp_path / "c.dc")
    assert "'nowhere/relu#0', which the net does not have" in refusal(path)


WRONG: tuple[Json, ...] = (
    None, True, -1, 10**30, float("nan"), "x", [], {"x": 1},
)  # fmt: skip


def places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value inside a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else inside:
        yield from places(inner, (*path, key))


def replaced(value: Json, path: tuple[Any, ...], new: Json) -> Json:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


def survives(path: Path, digest: str) -> bool:
    """As `survives_slowly`, in no time; a busy machine gets the best of several tries."""
    for _ in range(5):
        start = time.process_time()
        found = survives_slowly(path, digest)
        if time.process_time() - start < 1.0:
            return found
    raise AssertionError("every one of 5 tries took more than a second")


def survives_slowly(path: Path, digest: str) -> bool:
    """True if the file gives the candidate of `digest`; False if it is refused in one line."""
    message = ""
    try:
        found = load(path).digest()
    except ContainerError as error:
        found, message = "", str(error)
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    assert found in ("", digest)
    return bool(found)


def test_every_value_of_about_replaced_by_every_wrong_type(small: Path, sparse: Candidate) -> None:
    found = parts(small)
    about = json.loads(found["about"])
    digest = sparse.digest()
    tried = 0
    for number, place in enumerate(places(about)):
        for wrong in WRONG[number % 2 :: 2]:
            value = about
            for key in place:
                value = value[key]
            if type(value) is type(wrong) and value == wrong:
                continue
            text = json.dumps(replaced(about, place, wrong)).encode()
            put(small, {**found, "about": text})
            # The history is what a file says of its past: any text will do, or none.
            free = place == ("history",) and wrong == []
            free |= place[:1] == ("history",) and len(place) == 2 and isinstance(wrong, str)
            assert survives(small, digest) == free, (place, wrong)
            tried += 1
    assert tried > 100


def test_every_value_about_grids_replaced_by_every_wrong_type(tmp_path: Path) -> None:
    candidate = sparse_lenet(grids=True)
    path = write_untraced(candidate, tmp_path / "c.dc")
    found = parts(path)
    about = json.loads(found["about"])
    digest = candidate.digest()
    assert survives_slowly(path, digest)  # the first tracing in a process imports much
    for name in ("activations", "ties"):
        for place in places(about[name], (name,)):
            for wrong in WRONG[1::2]:  # a load with grids traces the net
                text = json.dumps(replaced(about, place, wrong)).encode()
                put(path, {**found, "about": text})
                value = about
                for key in place:
                    value = value[key]
                assert not survives(path, digest) or value == wrong, (place, wrong)


def test_every_flipped_byte_of_a_file_is_an_error_or_the_same_candidate(
    small: Path, sparse: Candidate
) -> None:
    data = bytearray(small.read_bytes())
    digest = sparse.digest()
    alive = 0
    for place in range(len(data)):
        flip = 1 << (place % 8)
        data[place] ^= flip
        small.write_bytes(data)
        alive += survives(small, digest)
        data[place] ^= flip
    small.write_bytes(data)
    assert survives(small, digest)
    assert alive == 0


def test_every_truncation_of_a_file(small: Path, sparse: Candidate) -> None:
    data = small.read_bytes()
    for length in range(0, len(data), 11):
        small.write_bytes(data[:length])
        assert not survives(small, sparse.digest())


# -- files of version 1 -----------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.dc"
    path.write_bytes(GOLDEN_V1.read_bytes())
    return path


def test_every_flipped_byte_of_a_file_of_version_1(old: Path) -> None:
    """The description and the payload have checksums; safetensors' header has spaces at its end."""
    data = bytearray(old.read_bytes())
    digest = sparse_lenet(grids=True).digest()
    for place in (*range(0, 200, 7), *range(200, len(data), 61)):
        data[place] ^= 1 << (place % 8)
        old.write_bytes(data)
        data[place] ^= 1 << (place % 8)
        assert not survives_slowly(old, digest) or place < 300, place


def test_every_truncation_of_a_file_of_version_1(old: Path) -> None:
    data = old.read_bytes()
    for length in range(0, len(data), 199):
        old.write_bytes(data[:length])
        assert "container" in refusal(old)


def test_parts_of_version_1_that_lie(old: Path) -> None:
    raw = load_file(old)

    def changed(**parts: bytes) -> str:
        arrays = {**raw, **{name: np.frombuffer(data, "u1") for name, data in parts.items()}}
        old.write_bytes(save(arrays))
        return refusal(old)

    about = json.loads(zlib.decompress(raw["about"].tobytes()))
    index = zlib.decompress(raw["index"].tobytes())
    assert "part 'index' is damaged" in changed(index=b"no deflated data")
    assert "part 'index' is cut off" in changed(index=zlib.compress(index)[:-1])
    assert "inflates to more than" in changed(index=zlib.compress(bytes(5 << 20)))
    assert "the index are cut off" in changed(index=zlib.compress(index[:-1]))
    assert "of no known version" in changed(about=zlib.compress(b"{}"))
    for field, wrong in (("container", 3), ("digest", ""), ("digest", None)):
        text = json.dumps({**about, field: wrong}).encode()
        assert "of no known version" in changed(about=zlib.compress(text))
    payload = raw["payload"].tobytes()
    assert "the payload are cut off" in changed(payload=payload[:-1])
    assert "the payload have 1 bytes more" in changed(payload=payload + b"x")
    assert "its checksum differs" in changed(payload=bytes(len(payload)))
    assert "holds about" in changed(more=b"x")
    for place in range(len(index)):
        lying = index[:place] + bytes([index[place] ^ 0x51]) + index[place + 1 :]
        changed(index=zlib.compress(lying))
