"""The rules: what pays on which engine and processor, each with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.planning.claims import Verdict, joined
from targets.planning.cpu import Cpu
from targets.planning.form import LayerForm, NetForm
from targets.planning.speed import Where
from targets.planning.verdicts import QUESTIONS, verdicts

VNNI = Cpu("x86", frozenset({"avx", "avx2", "avx512", "vnni"}))
AVX2 = Cpu("x86", frozenset({"avx", "avx2"}))
A53, A76 = Cpu("arm"), Cpu("arm", frozenset({"dotprod"}))
I8MM = Cpu("arm", frozenset({"dotprod", "i8mm"}))
UNKNOWN = Cpu("x86", known=False)
ENGINES = {"onnx": "onnxruntime", "tflite": "litert", "dc": None}
FORMATS = ("onnx", "onnx-arm", "onnx-packed", "tflite", "tflite-float-io", "tflite-packed", "dc")


def where(form: str) -> Where:
    return Where(form, ENGINES[form.partition("-")[0]])  # type: ignore[arg-type]


def layer(name: str, inputs: int, outputs: int, kernel: int = 9, **more: object) -> LayerForm:
    """A convolution at 28 x 28 places; role 'depthwise' takes one channel each."""
    places = 28 * 28
    own = 1 if more.get("role") == "depthwise" else inputs
    weights = outputs * own * kernel
    values = {"role": "conv", "groups": 1, **more}
    return LayerForm(
        name,
        inputs=inputs,
        outputs=outputs,
        kernel=kernel,
        macs=weights * places,
        moved=places * (inputs + outputs),
        weights=weights,
        zeros=values.pop("zeros", 0),
        **values,
    )


def net(*layers: LayerForm, integer_math: bool = False, floats: tuple[str, ...] = ()) -> NetForm:
    weights = sum(la.weights for la in layers)
    left = weights - sum(la.zeros for la in layers)
    macs = sum(la.macs for la in layers)
    return NetForm(weights, left, macs, layers, integer_math, floats)


def chain(width: int = 64, **more: object) -> NetForm:
    return net(layer("a", 3, width), layer("b", width, width, **more))  # type: ignore[arg-type]


def changed(form: NetForm, **more: object) -> NetForm:
    """The net with all layers changed alike."""
    layers = [replace(la, **more) for la in form.layers]  # type: ignore[arg-type]
    return net(*layers, integer_math=form.integer_math)


def pruned(form: NetForm, share: float) -> NetForm:
    return net(*(replace(la, zeros=int(share * la.weights)) for la in form.layers))


def int8(form: NetForm) -> NetForm:
    layers = [replace(la, kind="integer", bits=8) for la in form.layers]
    return net(*layers, integer_math=True)


def answers(before: NetForm, after: NetForm, form: str, cpu: Cpu = VNNI) -> tuple[str, ...]:
    found = verdicts(before, after, where(form), cpu)
    return tuple(getattr(found, question).answer for question in QUESTIONS)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_net_gains_nothing(form: str) -> None:
    run = "not run" if form == "dc" else "no"
    assert answers(chain(), chain(), form) == ("no", "no", run, run)


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("onnx", ("no", "yes", "no", "no")),
        ("tflite", ("no", "yes", "no", "no")),
        ("onnx-packed", ("yes", "yes", "no", "worse")),
        ("tflite-packed", ("yes", "yes", "no", "worse")),
        ("dc", ("yes", "yes", "not run", "not run")),
    ],
)
def test_zeros_make_a_download_smaller_and_nothing_faster(
    form: str, wanted: tuple[str, ...]
) -> None:
    assert answers(chain(), pruned(chain(), 0.9), form) == wanted


def thin(zeros: float = 0.8) -> NetForm:
    """As MobileNet: a first convolution, depthwise and 1 x 1 layers."""
    first = layer("a", 3, 32)
    deep = layer("b", 32, 32, role="depthwise", groups=32)
    point = layer("c", 32, 64, kernel=1, role="pointwise")
    return net(first, deep, replace(point, zeros=int(zeros * point.weights)))


@pytest.mark.parametrize(
    ("after", "cpu", "form", "answer", "said"),
    [
        (thin(), A76, "tflite-packed", "perhaps", "may take its sparse kernels for"),
        (thin(), VNNI, "tflite-packed", "no", "not on x86 with AVX"),
        (thin(0.6), A76, "tflite-packed", "no", "over 66 % zeros"),
        (thin(), A76, "tflite", "no", "dense weights"),
        (thin(), A76, "onnx-packed", "no", "no sparse kernels"),
        (net(*thin().layers, layer("d", 64, 64)), A76, "tflite-packed", "no", "depthwise layers"),
    ],
)
def test_sparse_kernels_are_for_some_nets_and_processors(
    after: NetForm, cpu: Cpu, form: str, answer: str, said: str
) -> None:
    before = net(*(replace(la, zeros=0) for la in after.layers))
    found = verdicts(before, after, where(form), cpu).latency
    assert found.answer == answer
    assert said in found.reason


def test_sparse_kernels_are_for_floats() -> None:
    found = verdicts(int8(thin(0.0)), _sparse_int8(), where("tflite-packed"), A76).latency
    assert found == Verdict("no", found.reason)
    assert "are for floats" in found.reason


def _sparse_int8() -> NetForm:
    layers = [replace(la, kind="integer", bits=8) for la in thin().layers]
    return net(*layers, integer_math=True)


@pytest.mark.parametrize(
    ("cpu", "form", "answer", "said"),
    [
        (VNNI, "onnx", "yes", "VNNI"),
        (VNNI, "tflite", "yes", "VNNI"),
        (VNNI, "onnx-arm", "perhaps", "signed"),
        (AVX2, "onnx", "perhaps", "without VNNI"),
        (UNKNOWN, "onnx", "perhaps", "does not tell"),
        (A53, "onnx-arm", "perhaps", "without dotprod"),
        (A76, "onnx-arm", "yes", "dotprod"),
        (I8MM, "tflite", "yes", "i8mm"),
    ],
)
def test_int8_is_fast_where_the_processor_multiplies_it(
    cpu: Cpu, form: str, answer: str, said: str
) -> None:
    found = verdicts(chain(), int8(chain()), where(form), cpu)
    assert (found.latency.answer, said in found.latency.reason) == (answer, True)
    assert (found.file.answer, found.download.answer, found.memory.answer) == ("yes",) * 3


def test_int8_says_what_stays_float_and_what_depthwise_layers_gain() -> None:
    before = net(*thin(0.0).layers)
    after = replace(int8(before), float_layers=("c",))
    found = verdicts(before, after, where("onnx"), VNNI).latency
    assert "of the MACs stay float" in found.reason
    assert "depthwise layers" in found.reason


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_integer_weights_alone_gain_nothing_in_a_plain_file(form: str) -> None:
    after = changed(chain(), kind="integer", bits=8)
    assert answers(chain(), after, form) == ("no", "no", "no", "no")
    assert answers(chain(), after, f"{form}-packed")[0] == "yes"


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_shared_weights_are_for_the_download(form: str) -> None:
    after = changed(chain(), kind="shared", bits=5)
    assert answers(chain(), after, form) == ("no", "yes", "no", "no")
    assert answers(chain(), after, "dc") == ("yes", "yes", "not run", "not run")


@pytest.mark.parametrize("form", ["onnx", "tflite", "onnx-packed", "tflite-packed"])
def test_half_the_channels_gain_in_all_four(form: str) -> None:
    assert answers(chain(64), chain(32), form) == ("yes",) * 4


@pytest.mark.parametrize(
    ("width", "cpu", "form", "answer"),
    [
        (48, VNNI, "onnx", "yes"),  # measured 0.60 of the time of 64
        (56, VNNI, "onnx", "no"),  # 1.05
        (63, VNNI, "onnx", "perhaps"),  # 1.45
        (56, AVX2, "onnx", "yes"),
        (56, VNNI, "tflite", "yes"),  # 0.88
        (48, VNNI, "tflite", "yes"),
    ],
)
def test_channels_count_in_the_blocks_of_the_engine(
    width: int, cpu: Cpu, form: str, answer: str
) -> None:
    found = verdicts(chain(64), chain(width), where(form), cpu).latency
    assert found.answer == answer, found.reason


def test_int8_depthwise_layers_want_multiples_of_16() -> None:
    def nets(width: int) -> NetForm:
        deep = layer("b", width, width, role="depthwise", groups=width)
        return int8(net(layer("a", 3, width), deep, layer("c", width, width, kernel=1)))

    slow = verdicts(nets(64), nets(56), where("onnx"), VNNI).latency
    assert slow.answer == "perhaps"
    assert "depthwise: of 16" in slow.reason
    assert verdicts(nets(64), nets(48), where("onnx"), VNNI).latency.answer == "yes"


def factorized(rank: int) -> NetForm:
    """Layer b of chain(256) as two."""
    parts = layer("b.0", 256, rank), layer("b.1", rank, 256, kernel=1)
    return net(layer("a", 3, 256), *parts)


def test_thin_layers_pay_where_they_save_more_than_they_move() -> None:
    assert answers(chain(256), factorized(32), "onnx") == ("yes",) * 4
    odd = verdicts(chain(256), factorized(30), where("onnx"), VNNI).latency
    assert (odd.answer, "no multiple of 4" in odd.reason) == ("perhaps", True)
    assert answers(chain(256), factorized(30), "tflite")[2] == "yes"
    worse = verdicts(chain(256), factorized(250), where("onnx"), VNNI)
    assert (worse.file.answer, worse.latency.answer) == ("worse", "worse")
    near = verdicts(chain(256), factorized(220), where("onnx"), VNNI).latency
    assert near.answer == "perhaps"


def test_a_tiny_net_promises_no_speed() -> None:
    small = net(layer("a", 3, 8, kernel=1))
    assert verdicts(small, int8(small), where("onnx"), VNNI).latency.answer == "perhaps"


def test_a_gain_beside_a_loss_is_open() -> None:
    assert joined([("yes", "a"), ("worse", "b"), ("no", "c")]) == Verdict("perhaps", "a; b")
    assert joined([("yes", "a"), ("no", "c")]) == Verdict("yes", "a")
    assert joined([("no", "c"), ("worse", "b")]) == Verdict("worse", "b")
    assert joined([]).answer == "no"


@given(
    form=st.sampled_from(FORMATS),
    width=st.integers(1, 80),
    zeros=st.floats(0, 0.99),
    cpu=st.sampled_from([VNNI, AVX2, A53, A76, I8MM, UNKNOWN]),
    quantized=st.booleans(),
)
def test_every_change_gets_an_answer_with_a_reason(
    form: str, width: int, zeros: float, cpu: Cpu, quantized: bool
) -> None:
    after = pruned(chain(width), zeros)
    found = verdicts(chain(64), int8(after) if quantized else after, where(form), cpu)
    for question in QUESTIONS:
        verdict = getattr(found, question)
        assert verdict.reason
        assert (verdict.answer == "not run") == (form == "dc" and question in QUESTIONS[2:])


def test_a_container_of_fewer_channels_may_lose_floats_of_half_precision() -> None:
    before = changed(chain(64), bits=16)
    same, fuller = changed(chain(48), bits=16), chain(48)
    assert verdicts(before, same, where("dc"), VNNI).file.answer == "yes"
    said = verdicts(before, fuller, where("dc"), VNNI)
    assert said.file.answer == said.download.answer == "perhaps"
    assert said.file.reason.endswith("of the weights, but floats of 32 bits where they were of 16")
    assert verdicts(before, fuller, where("onnx"), VNNI).file.answer == "yes"
    assert verdicts(before, int8(chain(48)), where("dc"), VNNI).file.answer == "yes"


def test_int8_says_which_multiples_the_engine_wants() -> None:
    odd = int8(chain(63))
    said = verdicts(chain(63), odd, where("onnx"), VNNI).latency
    assert said.answer == "perhaps"
    assert "have channels that are no multiple of 4 (depthwise: of 16)" in said.reason
