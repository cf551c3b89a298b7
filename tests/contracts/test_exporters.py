"""What holds for every exporter there is: bytes, atomic writes, refusals, and what the file gives.

A new exporter needs one line in READS_BACK: the runtime that runs its files, or a reader that
gives the candidate back.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import targets.formats
import targets.runtimes
from compress.candidate import Candidate
from compress.errors import ExportError, MissingExtraError
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from targets.artifact import Artifact, file_sha256
from targets.equivalence import assert_equivalent
from targets.formats import deep_compression
from tests.contracts.walk import classes_in
from tests.digits import digits, trained
from tests.exports import exported
from tests.nets import digits_residual_spec
from tests.onnx_files import folded, quantized

EXPORTERS = classes_in(targets.formats, lambda found: {"format", "suffix"} <= set(vars(found)))
RUNTIMES = {
    form: runtime
    for runtime in classes_in(targets.runtimes, lambda found: "formats" in vars(found)).values()
    for form in runtime.formats  # type: ignore[attr-defined]
}
# By format: a runtime that runs the file, or what reads the candidate back from it.
READS_BACK: dict[str, Callable[[Path], Candidate] | None] = {
    "onnx": None,
    "onnx-packed": None,
    "tflite": None,
    "tflite-packed": None,
    "dc": lambda path: deep_compression.load(path, digits_residual_spec()),
}
PICTURES = digits()["validation"].images[:64]


def default(name: str) -> Any:
    """The exporter with its default options, which must be enough."""
    return EXPORTERS[name]()


@functools.cache
def candidate(kind: str) -> Candidate:
    base, task = folded(digits_residual_spec), trained(digits_residual_spec).task
    if kind == "fp32":
        return base
    if kind == "int8":
        return quantized(digits_residual_spec)
    if kind == "int4":
        return QuantizeInt8(weight_bits=4)(base, task).candidate
    pruned = PruneMagnitude(0.5)(base, task).candidate
    shared = ShareWeights(4)(pruned, task).candidate
    return shared if kind == "shared" else QuantizeInt8()(shared, task).candidate


PRECISIONS = {
    "fp32": "fp32",
    "int8": "int8",
    "int4": "int4",
    "shared": "shared",
    "shared int8": "int8",
}
KINDS = tuple(PRECISIONS)


def made(name: str, kind: str) -> Artifact:
    """The file of this exporter for this kind of candidate, written once."""
    try:
        return exported(default(name), candidate(kind))
    except MissingExtraError as error:
        pytest.skip(f"{name} was not tested here: {error}")


@pytest.fixture(params=sorted(EXPORTERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_walk_finds_the_exporters_and_their_runtimes() -> None:
    forms = {exporter.format for exporter in EXPORTERS.values()}  # type: ignore[attr-defined]
    assert {"onnx", "tflite", "dc"} <= forms
    missing = forms - set(READS_BACK)
    assert not missing, f"formats without a line in READS_BACK of {__file__}: {sorted(missing)}"
    without = {f for f, reader in READS_BACK.items() if reader is None} - set(RUNTIMES)
    assert not without, f"formats that no runtime in targets/runtimes runs: {sorted(without)}"


def test_an_exporter_is_a_frozen_dataclass_with_a_format_and_a_suffix(name: str) -> None:
    exporter = default(name)
    assert dataclasses.is_dataclass(exporter)
    assert type(exporter).__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert not {"format", "suffix"} & {f.name for f in dataclasses.fields(exporter)}
    assert exporter.suffix.startswith(".")
    assert hash(exporter) == hash(default(name))
    assert eval(repr(exporter), dict(EXPORTERS)) == exporter  # noqa: S307


@pytest.mark.parametrize("kind", KINDS)
def test_the_artifact_says_what_was_written(name: str, kind: str) -> None:
    artifact = made(name, kind)
    assert artifact.format == default(name).format
    assert artifact.precision == PRECISIONS[kind]
    assert artifact.size_bytes == artifact.path.stat().st_size > 1000
    assert artifact.sha256 == file_sha256(artifact.path)
    assert artifact.candidate_digest == candidate(kind).digest()
    assert len(artifact.inputs) == len(artifact.outputs) == 1
    assert sorted(artifact.inputs[0].shape) == [1, 1, 8, 8]
    assert artifact.outputs[0].shape == (1, 10)
    assert [p.name for p in artifact.path.parent.iterdir()] == [artifact.path.name]


@pytest.mark.parametrize("kind", ["fp32", "shared int8"])
def test_two_writes_give_equal_bytes_and_replace_what_was_there(
    name: str, kind: str, tmp_path: Path
) -> None:
    first = made(name, kind)
    path = tmp_path / f"net{default(name).suffix}"
    path.write_text("an older file")
    before = candidate(kind).digest()
    again = default(name)(candidate(kind), path)
    assert candidate(kind).digest() == before
    assert path.read_bytes() == first.path.read_bytes()
    assert dataclasses.replace(again, path=first.path) == first


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(name, "fp32")
    path = tmp_path / f"net{default(name).suffix}"
    path.write_text("an older file")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compress.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        default(name)(candidate("fp32"), path)
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_gives_what_the_candidate_gives(name: str, kind: str) -> None:
    artifact = made(name, kind)
    reader = READS_BACK[artifact.format]
    if reader is not None:
        back = reader(artifact.path)
        assert back.digest() == artifact.candidate_digest
        np.testing.assert_array_equal(back.predict(PICTURES), candidate(kind).predict(PICTURES))
        return
    found = assert_equivalent(candidate(kind), artifact, RUNTIMES[artifact.format](), PICTURES)
    assert found.samples == len(PICTURES)
    assert found.top1_agreement >= 63 / 64  # a picture between two classes may go either way


@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("runnable", [n for n, e in EXPORTERS.items() if e.format in RUNTIMES])  # type: ignore[attr-defined]
def test_pictures_go_in_as_nchw_floats_in_any_number(runnable: str, kind: str) -> None:
    artifact = made(runnable, kind)
    session = RUNTIMES[artifact.format]().load(artifact.path)
    assert session.inputs == artifact.inputs
    assert session.outputs == artifact.outputs
    whole = session.predict(PICTURES[:5])
    assert whole.shape == (5, 10)
    assert whole.dtype == np.float32
    singles = np.concatenate([session.predict(PICTURES[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(singles, whole, atol=1e-5)
    assert session.predict(PICTURES[:0]).shape == (0, 10)


def test_an_encoded_candidate_with_batch_norm_is_refused_or_kept_as_it_is(
    name: str, tmp_path: Path
) -> None:
    """A format that compiles the net would fold, and with that lose what encodings explain."""
    made(name, "fp32")
    pruned = PruneMagnitude(0.5)(*trained(digits_residual_spec)).candidate
    path = tmp_path / f"net{default(name).suffix}"
    path.write_text("an older file")
    reader = READS_BACK[default(name).format]
    if reader is not None:
        default(name)(pruned, path)
        assert reader(path).digest() == pruned.digest()
        return
    with pytest.raises(ExportError, match="FoldBatchNorm") as error:
        default(name)(pruned, path)
    assert "\n" not in str(error.value)
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_dense_candidate_with_batch_norm_is_written(name: str, tmp_path: Path) -> None:
    made(name, "fp32")
    dense = trained(digits_residual_spec).candidate
    artifact = default(name)(dense, tmp_path / f"net{default(name).suffix}")
    reader = READS_BACK[artifact.format]
    if reader is None:
        assert_equivalent(dense, artifact, RUNTIMES[artifact.format](), PICTURES[:8])
    else:
        assert reader(artifact.path).digest() == dense.digest()
