"""Packed .tflite files hold the plain weights in fewer bytes, and answer bit for bit alike."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.encoding import Encoded, Encoding, int8_codebook
from compress.errors import EncodingError, ExportError, RangeError
from compress.stage import run
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.prune_magnitude import PruneMagnitude
from compress.stages.quantize_int8 import QuantizeInt8
from compress.stages.share_weights import ShareWeights
from compress.task import Task
from targets.audit.tflite import audit_tflite
from targets.equivalence import assert_equivalent
from targets.formats.tflite import TFLiteExporter
from targets.formats.tflite_packed import TFLitePackedExporter
from targets.formats.tflite_packing import Form, as_half, smallest_of
from targets.formats.tflite_schema import Source, names_of, tflite_metadata
from targets.formats.tflite_sketch import Quantization, Sketch
from targets.formats.tflite_sparse import smallest
from targets.formats.tflite_unpacking import add_unpacking
from targets.inspection import inspect_file
from targets.runtimes.litert import LiteRtRuntime
from tests.digits import digits, digits_task
from tests.every_net import builders, lively
from tests.exports import exported
from tests.nets import digits_branch_spec, digits_plain_spec, digits_residual_spec
from tests.onnx_files import Spec, folded

PLAIN, PACKED = TFLiteExporter(), TFLitePackedExporter()
# One net of each kind of layer, for a conversion takes seconds; all where this is set.
EVERY = "EDGEPRESS_EVERY_NET"
NETS = ("lenet300", "mobilenet_v2")
DIGITS = (digits_residual_spec, digits_branch_spec, digits_plain_spec)
LEVELS = 20


def pictures(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(np.float32)


def on_integers(candidate: Candidate, kept: float) -> Candidate:
    """Weights as integers times one scale, as ShareByRate leaves them; batch norm then folded."""
    encodings: dict[str, Encoding] = {}
    for name, weight in candidate.network.parameters().items():
        if weight.ndim > 1:
            scale = np.float32(np.abs(weight).max() / LEVELS)
            codes = np.rint(weight / scale)
            codes[np.abs(weight) < np.quantile(np.abs(weight), 1 - kept)] = 0
            indices = codes.astype(np.int8).view(np.uint8)
            encodings[name] = Encoded(indices, int8_codebook(), np.array([scale]))
    return FoldBatchNorm()(candidate.with_values({}, encodings), digits_task()).candidate  # type: ignore[arg-type]


def in_int8(candidate: Candidate) -> Candidate:
    def calibration() -> Iterable[NDArray[np.float32]]:
        return [pictures(candidate.spec.input_shape)]

    task = Task(evaluate=lambda _: {}, fingerprint="none", calibration=calibration)
    return QuantizeInt8()(candidate, task).candidate


@functools.cache
def sparse_digits(spec: Spec = digits_residual_spec) -> Candidate:
    return on_integers(folded(spec), 0.3)


def assert_same_answers(candidate: Candidate, most: float) -> None:
    """By XNNPACK and by the built-in kernels, which find the same operators in both files."""
    plain, small = (exported(exporter, candidate).path for exporter in (PLAIN, PACKED))
    assert small.stat().st_size < most * plain.stat().st_size
    batch = pictures(candidate.spec.input_shape)
    for delegate in (True, False):
        runtime = LiteRtRuntime(delegate=delegate)
        expected = runtime.load(plain).predict(batch)
        assert np.isfinite(expected).all()
        assert expected.any()
        assert runtime.load(small).predict(batch).tobytes() == expected.tobytes()
    before, after = audit_tflite(plain), audit_tflite(small)
    assert (after.parts, after.left) == (before.parts, before.left)
    assert after.expanded == ()
    assert [layer.ran for layer in after.layers] == [layer.ran for layer in before.layers]
    more = Counter(after.operators) - Counter(before.operators)
    # An integer FULLY_CONNECTED becomes a convolution, which may have sparse weights.
    replaced = {"CONV_2D", "RESHAPE"} if candidate.activations else set[str]()
    assert set(more) <= {"DENSIFY", "DEQUANTIZE", *replaced}
    assert more["DENSIFY"] > 0


@pytest.mark.parametrize("name", sorted(builders()) if os.environ.get(EVERY) else NETS)
def test_every_net_gives_the_bits_of_its_plain_file(name: str) -> None:
    """Folded after sharing, so that the codes carry a scale for each channel, some negative."""
    candidate = on_integers(lively(name), 0.2)
    assert_same_answers(candidate, 0.4)
    integer = in_int8(candidate)
    try:
        exported(PLAIN, integer)
    except ExportError as error:  # random weights may hide which tensor is which
        with pytest.raises(ExportError, match=re.escape(str(error))):
            exported(PACKED, integer)
    else:
        assert_same_answers(integer, 1.0)


@pytest.mark.parametrize("spec", DIGITS)
def test_trained_nets(spec: Spec) -> None:
    candidate = sparse_digits(spec)
    assert_same_answers(candidate, 0.6)
    assert exported(PACKED, candidate).precision == "shared"
    assert_equivalent(candidate, exported(PACKED, candidate), LiteRtRuntime(), digits_pictures())


def digits_pictures() -> NDArray[np.float32]:
    return digits()["validation"].images[:32]


def types(path: Path) -> Counter[str]:
    """Types of the constants of two axes and more."""
    source = Source(path.read_bytes())
    found: Counter[str] = Counter()
    for index, tensor in enumerate(source.tensors):
        if source.constant(index) is not None and len(source.shape(index)) > 1:
            sparse = "sparse " if tensor.sparsity is not None else ""
            found[sparse + names_of("TensorType")[tensor.type]] += 1
    return found


def test_weight_only_int8_stays_dense() -> None:
    """A scale a channel, hardly a zero: int8 and DEQUANTIZE."""
    base = folded(digits_residual_spec)
    encodings: dict[str, Encoded] = {}
    for name, weight in base.network.parameters().items():
        if weight.ndim > 1:
            scale = (np.abs(weight).reshape(len(weight), -1).max(1) / 127).astype(np.float32)
            codes = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
            indices = codes.astype(np.int8).view(np.uint8)
            encodings[name] = Encoded(indices, int8_codebook(), scale, 0)
    candidate = base.with_values({}, encodings)
    plain, small = (exported(exporter, candidate) for exporter in (PLAIN, PACKED))
    assert types(small.path) == {"INT8": 5}
    assert small.size_bytes < 0.45 * plain.size_bytes
    expected = LiteRtRuntime().load(plain.path).predict(digits_pictures())
    given = LiteRtRuntime().load(small.path).predict(digits_pictures())
    assert given.tobytes() == expected.tobytes()


def test_floats_of_a_codebook_are_on_no_grid_and_stay_floats() -> None:
    task = digits_task()
    stages = (PruneMagnitude(0.7), ShareWeights(4))
    candidate = run(folded(digits_residual_spec), stages, task)
    small = exported(PACKED, candidate)
    assert set(types(small.path)) <= {"sparse FLOAT32", "FLOAT32"}
    assert types(small.path)["sparse FLOAT32"] >= 3
    assert_same_answers(candidate, 0.7)


@pytest.mark.parametrize("biases_too", [True, False])
def test_float16_where_it_is_exact_of_weights_and_bias_both(biases_too: bool) -> None:
    base = folded(digits_branch_spec)
    halved = {
        name: values.astype(np.float16).astype(np.float32)
        for name, values in base.network.parameters().items()
        if biases_too or values.ndim > 1
    }
    candidate = base.with_values(halved, {})
    plain, small = (exported(exporter, candidate) for exporter in (PLAIN, PACKED))
    source = Source(small.path.read_bytes())
    held = Counter(
        (names_of("TensorType")[tensor.type], len(source.shape(index)) > 1)
        for index, tensor in enumerate(source.tensors)
        if source.constant(index) is not None
    )
    assert (held["FLOAT16", True] == held["FLOAT16", False] > 3) == biases_too
    assert biases_too or not held["FLOAT16", True] + held["FLOAT16", False]
    assert (small.size_bytes < 0.8 * plain.size_bytes) == biases_too
    for delegate in (True, False):
        runtime = LiteRtRuntime(delegate=delegate)
        answers = [runtime.load(a.path).predict(digits_pictures()) for a in (plain, small)]
        assert answers[0].tobytes() == answers[1].tobytes()


def test_the_weights_unpack_to_those_of_the_plain_file() -> None:
    candidate = sparse_digits()
    source = Source(exported(PACKED, candidate).path.read_bytes())
    stored = {t.name.decode(): i for i, t in enumerate(source.tensors) if t.buffer}
    for name, encoding in candidate.encodings.items():
        assert isinstance(encoding, Encoded)
        codes = source.constant(stored[name])
        assert codes is not None
        if codes.dtype == np.int8:
            assert np.count_nonzero(codes) == np.count_nonzero(~encoding.zeros())


def test_a_dense_net_is_its_plain_file() -> None:
    candidate = folded(digits_branch_spec)
    plain, small = (exported(exporter, candidate) for exporter in (PLAIN, PACKED))
    assert small.path.read_bytes() == plain.path.read_bytes()


def test_metadata_travels() -> None:
    candidate = sparse_digits()
    found = tflite_metadata(exported(PACKED, candidate).path)
    assert found is not None
    assert (found.digest, found.classes) == (candidate.digest(), candidate.spec.classes)


def test_ends_of_int8_files_may_be_floats(tmp_path: Path) -> None:
    candidate = in_int8(sparse_digits())
    artifact = TFLitePackedExporter(io="float32")(candidate, tmp_path / "f.packed.tflite")
    assert artifact.inputs[0].dtype == artifact.outputs[0].dtype == "float32"
    integers = LiteRtRuntime().load(exported(PACKED, candidate).path).predict(digits_pictures())
    floats = LiteRtRuntime().load(artifact.path).predict(digits_pictures())
    np.testing.assert_array_equal(integers, floats)


def test_inspection_counts_what_is_kept() -> None:
    candidate = sparse_digits()
    path = exported(PACKED, candidate).path
    found = inspect_file(path)
    assert (found.format, found.precision) == ("tflite-packed", "shared")
    tensors = {t.name: t for t in found.tensors}
    forms = Counter(tensors[name].form for name in candidate.encodings)
    assert forms["sparse"] >= 3
    for name, encoding in candidate.encodings.items():
        summary = tensors[name]
        assert summary.nonzeros == np.count_nonzero(~encoding.zeros())
        assert summary.elements == encoding.zeros().size
        if summary.form == "sparse":
            assert summary.nonzeros * 2 <= summary.file_bytes < summary.elements
    assert sum(found.parts.values()) == found.file_bytes == path.stat().st_size
    assert inspect_file(exported(PACKED, in_int8(candidate)).path).precision == "int8"
    plain = inspect_file(exported(PLAIN, candidate).path)
    assert (plain.format, plain.precision) == ("tflite", "fp32")


@pytest.mark.parametrize("shape", [(64, 3, 3, 64), (96, 80)])
def test_the_bytes_of_forms_are_those_in_the_file(shape: tuple[int, ...]) -> None:
    """To some bytes of padding, so that the smallest form makes the smallest file."""
    rng = np.random.default_rng(0)
    codes = (rng.integers(-9, 9, shape) * (rng.random(shape) < 0.2)).astype(np.int8)
    floats = codes.astype(np.float32)
    several = Quantization(np.ones(shape[0], np.float32), np.zeros(shape[0], np.int64))
    one = Quantization(several.scale[:1], several.zero_point[:1])
    plain = Form(floats)
    half = as_half(floats)
    assert half is not None
    forms = [Form(half), Form(codes, one), Form(codes, several)]
    for form in (*forms, *map(smallest_of, (plain, *forms))):
        real = file_bytes(form) - file_bytes(plain)
        assert abs(real - (form.file_bytes - plain.file_bytes)) < 64


def file_bytes(form: Form) -> float:
    """Of one such weight among others in a file."""

    def of(count: int) -> int:
        sketch = Sketch()
        start = sketch.tensor("x", (1,), "FLOAT32")
        several = [another(form, i) for i in range(count)]
        made = [add_unpacking(sketch, f"features.{i:02}.weight", f) for i, f in enumerate(several)]
        return len(sketch.finish({"x": start}, {f"y{i:02}": m for i, m in enumerate(made)}, "{}"))

    return (of(12) - of(4)) / 8


def another(form: Form, number: int) -> Form:
    """A form as large with other numbers: equal arrays would stand in the file once."""
    values = np.roll(form.values, (number, number), axis=(0, -1))
    grid = form.grid and replace(form.grid, scale=form.grid.scale + number)
    return Form(values, grid, None if form.sparse is None else smallest(values))


def test_a_grid_that_gives_other_floats_is_not_taken(tmp_path: Path) -> None:
    """Integers times scale round otherwise than the parameter says: refused before anything."""
    candidate = sparse_digits()
    parameters = candidate.network.parameters()
    changed = parameters["fc.weight"].copy()
    changed[3, 5] += 1
    broken = replace(
        candidate, network=candidate.network.with_parameters({**parameters, "fc.weight": changed})
    )
    target = tmp_path / "net.packed.tflite"
    target.write_bytes(b"kept")
    with pytest.raises(EncodingError, match=r"'fc\.weight' at \(3, 5\)") as error:
        PACKED(broken, target)
    assert "\n" not in str(error.value)
    assert target.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [target]


def test_options_are_checked() -> None:
    with pytest.raises(RangeError, match=r"TFLitePackedExporter\(io='uint8'\): allowed are"):
        TFLitePackedExporter(io="uint8")  # type: ignore[arg-type]
