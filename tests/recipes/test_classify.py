"""edgepress classify: the runtime's own answers, where two files part, and the contact sheet."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.classifying.answers import Answers, are_probabilities
from recipes.classifying.changes import compare
from recipes.classifying.text import percent
from recipes.pictures.gathering import gather
from recipes.toolbox.class_names import read_class_names, short_names
from recipes.toolbox.model_files import open_file
from targets.formats.deep_compression import DeepCompressionExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from tests.containers import sparse_lenet
from tests.digits import Trained
from tests.exports import exported
from tests.recipes.answering import (
    BAD_MODELS,
    PICTURES,
    Image,
    changed,
    folder,
    foreign_file,
    fp32_file,
    int8_file,
    logits,
    names,
    refused,
    sample,
    softmax,
    softmax_file,
    spoilt_container,
    spoilt_file,
    told,
)

LETTERS = tuple("abcdefghij")


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    return json.loads(told(capsys, "classify", *arguments, "--json"))


def shares(found: dict[str, Any]) -> np.ndarray:
    """(N, 10) probabilities by class number, of an answer with --top 10."""
    rows = np.zeros((len(found["pictures"]), 10))
    for row, picture in zip(rows, found["pictures"], strict=True):
        for entry in picture["top"]:
            row[entry["class"]] = entry["probability"]
    return rows


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    path = tmp_path / "letters.txt"
    path.write_text("\n".join(LETTERS) + "\n\n")
    return path


# --- one file


def test_probabilities_are_the_softmax_of_what_the_runtime_gives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = asked(capsys, fp32_file(), folder(), "--top", 10)
    assert found["outputs"] == "logits"
    np.testing.assert_allclose(shares(found), softmax(logits(fp32_file())), atol=1e-6)
    assert [picture["label"] for picture in found["pictures"]] == sample().labels.tolist()
    for picture in found["pictures"]:
        probabilities = [entry["probability"] for entry in picture["top"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_probabilities_in_the_file_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, softmax_file(), folder(), "--top", 10)
    assert found["outputs"] == "probabilities"
    np.testing.assert_allclose(shares(found), softmax(logits(fp32_file())), atol=1e-6)
    out = told(capsys, "classify", softmax_file(), folder() / "00.png")
    assert "puts out probabilities, shown as they are" in out


def test_a_container_is_decoded_first(capsys: pytest.CaptureFixture[str]) -> None:
    whole = asked(capsys, spoilt_file(), folder(), "--top", 10)
    found = asked(capsys, spoilt_container(), folder(), "--top", 10)
    assert found["pictures"] == whole["pictures"]


def test_a_container_without_a_graph_is_built_from_its_specification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lenet.dc"
    candidate = sparse_lenet()
    DeepCompressionExporter()(candidate, path)
    pixels = np.arange(784, dtype=np.uint8).reshape(28, 28)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = asked(capsys, path, tmp_path / "a.png", "--top", 10)
    expected = candidate.network.predict(candidate.spec.preprocess.normalise(pixels[None]))
    np.testing.assert_allclose(shares(found), softmax(expected), atol=1e-6)


def test_a_tflite_file(trained_plain: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    path = exported(TFLiteExporter(), trained_plain.candidate).path
    found = asked(capsys, path, folder(), "--top", 10)
    expected = LiteRtRuntime().load(path).predict(sample().images)
    np.testing.assert_allclose(shares(found), softmax(expected), atol=1e-6)


def test_the_screen_shows_the_best_with_labels_and_accuracy(
    letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(capsys, "classify", fp32_file(), folder(), "--labels", letters).splitlines()
    assert lines[0] == "net.onnx: 10 classes; puts out logits, softmax applied"
    outputs = logits(fp32_file())
    best = int(outputs[0].argmax())
    verdict = "right" if best == sample().labels[0] else "wrong"
    assert lines[1].endswith(f"00.png  (label: {LETTERS[sample().labels[0]]}; {verdict})")
    assert lines[2].split() == [
        *percent(float(softmax(outputs)[0].max())).split(),
        LETTERS[best],
    ]
    right = int((outputs.argmax(axis=1) == sample().labels).sum())
    assert lines[-1].startswith(f"top-1: {right} of {PICTURES} pictures, ")
    assert len(lines) == 2 + 6 * PICTURES


def test_files_and_folders_mix(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(
        capsys, "classify", fp32_file(), folder() / "05.png", folder(), "--top", 1
    ).splitlines()
    assert len(lines) == 2 + PICTURES  # no accuracy: one picture has no label
    assert lines[1].split("  ")[0].endswith("05.png")
    assert lines[1].split()[1:] == lines[7].split()[1:]
    best = logits(fp32_file()).argmax(axis=1)
    assert [line.split()[-1] for line in lines[2:]] == [str(number) for number in best]


def test_a_file_with_a_fixed_batch_is_filled_up(capsys: pytest.CaptureFixture[str]) -> None:
    def batch_of_seven(model: Any) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 7
        del model.graph.value_info[:]

    wide = changed(fp32_file(), batch_of_seven)
    assert open_file(wide).feed.batch == 7
    whole = asked(capsys, fp32_file(), folder(), "--top", 10)
    np.testing.assert_allclose(
        shares(asked(capsys, wide, folder(), "--top", 10)), shares(whole), atol=1e-6
    )


# --- files of other makers


def test_a_foreign_file_is_told_how_it_is_fed(
    tmp_path: Path, letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "classify", foreign_file(), folder())
    assert "does not say how pictures are prepared" in said
    assert "--preprocess with imagenet, caffe, inception, unit or a .json" in said
    assert "--labels" in said
    assert "takes 1 channel(s), its preprocessing gives RGB" in refused(
        capsys, "classify", foreign_file(), folder(), "--preprocess", "unit"
    )
    how = tmp_path / "how.json"
    how.write_text('{"channel_order": "GREY", "scale": 0.0625}')
    arguments = (foreign_file(), folder(), "--preprocess", how, "--labels", letters)
    found = asked(capsys, *arguments, "--top", 10)
    np.testing.assert_allclose(shares(found), softmax(logits(fp32_file())), atol=1e-6)
    assert found["pictures"][0]["top"][0]["name"] in LETTERS


def test_preprocessing_that_nobody_needs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "classify", fp32_file(), folder(), "--preprocess", "unit")
    assert "says itself how pictures are prepared" in said


# --- against another file


def expected_changes() -> np.ndarray:
    return (logits(spoilt_file()).argmax(1) != logits(fp32_file()).argmax(1)).nonzero()[0]


def test_against_shows_where_the_answer_changed(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, spoilt_file(), folder(), "--against", fp32_file())
    before, after = softmax(logits(fp32_file())), softmax(logits(spoilt_file()))
    where, labels = expected_changes(), sample().labels
    assert 5 < len(where) < PICTURES
    assert found["changed"] == len(where)
    assert {Path(c["picture"]).name for c in found["changes"]} == {names()[i] for i in where}
    for change in found["changes"]:
        index = names().index(Path(change["picture"]).name)
        old, new = before[index].argmax(), after[index].argmax()
        assert (change["reference"]["class"], change["file"]["class"]) == (old, new)
        assert change["confidence_lost"] == pytest.approx(
            before[index, old] - after[index, old], abs=1e-6
        )
        right = {"lost": old, "won": new}.get(change["verdict"])
        assert right == labels[index] if right is not None else labels[index] not in (old, new)
    lost = [change["confidence_lost"] for change in found["changes"]]
    assert lost == sorted(lost, reverse=True)
    right = (before.argmax(1) == labels).sum(), (after.argmax(1) == labels).sum()
    assert (found["right_reference"], found["right"]) == right
    assert found["lost"] - found["won"] == right[0] - right[1]
    assert found["drop"] == pytest.approx((right[0] - right[1]) / PICTURES)
    low, high = found["drop_interval"]
    assert low < found["drop"] < high


def test_against_prints_a_line_a_change_and_the_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = told(capsys, "classify", spoilt_file(), folder(), "--against", fp32_file()).splitlines()
    count = len(expected_changes())
    assert sum(" -> " in line and "(label: " in line for line in lines) == count
    assert f"on {count} of {PICTURES} pictures" in lines[-3]
    assert " lost, " in lines[-2]
    assert "top-1 " in lines[-2]
    assert lines[-1].startswith("--sheet")
    plain = folder(labelled=False)
    lines = told(capsys, "classify", spoilt_file(), plain, "--against", fp32_file()).splitlines()
    assert f"on {count} of {PICTURES} pictures" in lines[-2]
    assert "label" not in "\n".join(lines)


def test_the_same_net_never_changes_its_mind(capsys: pytest.CaptureFixture[str]) -> None:
    """Logits against probabilities: the classes are compared, not the numbers."""
    lines = told(
        capsys, "classify", softmax_file(), folder(), "--against", fp32_file()
    ).splitlines()
    assert f"on 0 of {PICTURES} pictures" in lines[2]
    assert "0 lost, 0 won" in lines[3]


def test_each_file_has_its_own_preprocessing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options are for the file that does not say; here it is fed wrongly, ours is not."""
    how = tmp_path / "dark.json"
    how.write_text('{"channel_order": "GREY", "scale": 0.0}')
    found = asked(capsys, fp32_file(), folder(), "--against", foreign_file(), "--preprocess", how)
    labels = sample().labels
    assert found["right"] == (logits(fp32_file()).argmax(1) == labels).sum()
    blind = logits_of_black().argmax()
    assert found["right_reference"] == (labels == blind).sum()


def logits_of_black() -> np.ndarray:
    from targets.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime().load(fp32_file()).predict(np.zeros((1, 1, 8, 8), np.float32))[0]


def test_a_tie_is_called_a_tie() -> None:
    before = Answers(np.float32([[0, 2]]), "logits")
    after = Answers(np.float32([[1, 1]]), "logits")
    found = compare(after, before, gather([folder() / "00.png"]))
    (change,) = found.changes
    assert change.tie
    assert (change.before, change.after, change.verdict) == (1, 0, None)
    assert change.after_share == change.kept_share == 0.5


# --- the sheet


def test_the_sheet_shows_every_change_and_fetches_nothing(
    tmp_path: Path, letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "changes.html"
    arguments = ("classify", spoilt_file(), folder(), "--against", fp32_file())
    told(capsys, *arguments, "--labels", letters, "--sheet", path)
    page = path.read_text()
    found = asked(capsys, spoilt_file(), folder(), "--against", fp32_file(), "--labels", letters)
    cards = re.findall(r"<li><div class=\"frame\">(.*?)</li>", page, re.S)
    assert len(cards) == found["changed"]
    for card, change in zip(cards, found["changes"], strict=True):
        assert Path(change["picture"]).name in card
        assert f"<b>{change['reference']['name']}</b>" in card
        assert f"<b>{change['file']['name']}</b>" in card
        assert f"{change['verdict']}</span>" in card
        assert card.count('class="right"') == (change["verdict"] != "both wrong")
        coded = re.findall(r'src="data:image/png;base64,([^"]+)"', card)[0]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))).convert("L"))
        index = names().index(Path(change["picture"]).name)
        np.testing.assert_array_equal(shown, (sample().images[index, 0] * 16).astype(np.uint8))
    assert not re.search(r"<script|https?:|@import|url\(|file:|<link", page)
    assert "default-src 'none'; img-src data:;" in page
    assert f"changed its mind on {found['changed']} of {PICTURES} pictures" in page
    told(capsys, *arguments, "--labels", letters, "--sheet", path, "--overwrite")
    assert path.read_text() == page


def test_hostile_names_stay_text_on_the_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = tmp_path / "evil.json"
    evil.write_text(json.dumps([f"<script>{n}</script>\"'&" for n in range(10)]))
    path = tmp_path / "changes.html"
    arguments = (spoilt_file(), folder(), "--against", fp32_file(), "--sheet", path)
    told(capsys, "classify", *arguments, "--labels", evil)
    page = path.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_sheet_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "changes.html"
    path.write_text("mine")
    arguments = ("classify", spoilt_file(), folder(), "--against", fp32_file(), "--sheet")
    assert "is there already; add --overwrite" in refused(capsys, *arguments, path)
    assert "is a folder" in refused(capsys, *arguments, tmp_path)
    assert "--against" in refused(capsys, "classify", spoilt_file(), folder(), "--sheet", path)
    assert path.read_text() == "mine"


# --- what is refused


@pytest.mark.parametrize(("name", "content", "words"), BAD_MODELS)
def test_what_is_no_model(
    name: str,
    content: bytes | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    said = refused(capsys, "classify", path, folder())
    assert words in said
    assert name in said
    assert name in refused(capsys, "classify", fp32_file(), folder(), "--against", path)


def test_a_damaged_container(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(spoilt_container().read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "damaged.dc"
    path.write_bytes(content)
    assert "damaged.dc" in refused(capsys, "classify", path, folder())
    path.write_bytes(spoilt_container().read_bytes()[:-20])
    assert "damaged.dc" in refused(capsys, "classify", path, folder())


def test_pictures_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    said = refused(capsys, "classify", fp32_file(), bad)
    assert "bad.png: cannot be read as a picture" in said
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(small)
    assert "8 x 8 are needed" in refused(capsys, "classify", fp32_file(), small)
    assert "no such file or folder" in refused(capsys, "classify", fp32_file(), tmp_path / "no")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no picture found" in refused(capsys, "classify", fp32_file(), empty)
    (empty / "notes.txt").write_text("text")
    assert "no picture found, but 1 files '*.txt'" in refused(
        capsys, "classify", fp32_file(), empty
    )


def test_labels_out_of_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,10\n")
    said = refused(capsys, "classify", fp32_file(), tmp_path)
    assert "label 10, class numbers 0 to 9 are allowed" in said


def test_another_number_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cut(model: Any) -> None:
        from onnx import helper, numpy_helper

        last = model.graph.output[0]
        for name, value in (("start", 0), ("end", 9), ("axis", 1)):
            model.graph.initializer.append(numpy_helper.from_array(np.int64([value]), name))
        inputs = [last.name, "start", "end", "axis"]
        model.graph.node.append(helper.make_node("Slice", inputs, ["nine"]))
        last.name = "nine"
        last.type.tensor_type.shape.dim[1].dim_value = 9
        model.ClearField("metadata_props")

    how = tmp_path / "how.json"
    how.write_text('{"channel_order": "GREY", "scale": 0.0625}')
    nine = changed(fp32_file(), cut)
    said = refused(
        capsys, "classify", fp32_file(), folder(), "--against", nine, "--preprocess", how
    )
    assert "has 10 classes" in said
    assert "has 9; compare files of one net" in said


def test_metadata_of_another_net_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    def renamed(model: Any) -> None:
        entry = model.metadata_props[0]
        raw = json.loads(entry.value)
        entry.value = json.dumps({**raw, "classes": list(names_)})

    names_ = LETTERS
    ours = changed(fp32_file(), renamed)
    names_ = (*LETTERS[:9], "z")
    theirs = changed(fp32_file(), renamed)
    said = refused(capsys, "classify", ours, folder(), "--against", theirs)
    assert "class 9 is 'j'" in said
    names_ = LETTERS[:9]
    nine = changed(fp32_file(), renamed)
    assert "metadata has 9 class names" in refused(capsys, "classify", nine, folder())


def test_what_is_no_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    def inner(model: Any) -> None:
        first = model.graph.node[0].output[0]
        model.graph.output[0].name = first
        model.graph.output[0].type.tensor_type.ClearField("shape")

    said = refused(capsys, "classify", changed(fp32_file(), inner), folder())
    assert "puts out [1, 16, 8, 8] for 1 picture(s); a classifier" in said

    def free(model: Any) -> None:
        for axis in (2, 3):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"free{axis}"

    said = refused(capsys, "classify", changed(fp32_file(), free), folder())
    assert "leave height and width open" in said


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.txt", "a\nb\n", "has 2 class names"),
        ("l.txt", "a\n\nb\nc", "class 1 has no name"),
        ("l.txt", "", "holds no class name"),
        ("l.txt", None, "cannot be read"),
        ("l.json", "[1]", "entry 0 is no name"),
        ("l.json", "{", "no JSON"),
        ("l.json", '"text"', "no list"),
        ("l.json", '{"1": "b"}', "entry 0 is no name"),
        ("l.json", "[]", "holds no class name"),
    ],
)
def test_bad_labels(
    name: str, text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    said = refused(capsys, "classify", fp32_file(), folder(), "--labels", path)
    assert words in said
    assert name in said


# --- parts


@pytest.mark.parametrize(
    "raw",
    [
        ["a", "b"],
        [["n1", "a"], ["n2", "b"]],
        {"1": "b", "0": "a"},
        {"0": ["n1", "a"], "1": ["n2", "b"]},
    ],
)
def test_forms_of_class_names(raw: object, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps(raw))
    assert read_class_names(path) == ("a", "b")


def test_synonyms_are_shortened_where_that_is_clear() -> None:
    names = ("crane, bird", "tench, Tinca tinca", "crane", "x")
    assert short_names(names) == ("crane, bird", "tench", "crane", "x")


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_are_known_also_in_8_bits(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 3, (4, 1000)).astype(np.float32)
    known = softmax(values).astype(np.float32)
    assert are_probabilities(known)
    assert are_probabilities(known[:1, :])
    coarse = np.rint(known * 256).astype(np.float32) / 256
    assert abs(coarse.sum(1) - 1).max() > 0.01  # else the case shows nothing
    assert are_probabilities(coarse)


def test_logits_are_not_taken_for_probabilities() -> None:
    assert not are_probabilities(np.float32([[0.5, 0.6, 0.2]]))
    assert not are_probabilities(np.float32([[1.5, -0.5]]))
    assert not are_probabilities(np.float32([[0.2, 0.7], [1, 0]]))
    assert are_probabilities(np.float32([[0, 1], [1, 0]]))
    assert not are_probabilities(logits(int8_file()))


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0 %"), (0.9999, ">99.9 %"), (0.921, "92.1 %"), (0.0001, "<0.1 %"), (0.0, "0.0 %")],
)
def test_no_probability_is_shown_as_more_certain_than_it_is(share: float, text: str) -> None:
    assert percent(share) == text
