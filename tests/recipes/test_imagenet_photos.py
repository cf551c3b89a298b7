"""SqueezeNet 1.1 with its authors' ImageNet weights on 500 real photographs, by the fp32 files.

Runs where EDGEPRESS_PHOTOS, or ../shared/data beside the project, holds `photos_500` (labels.csv,
images) and `squeezenet_v1.1_fp32/squeezenet_v1.1.safetensors`; no photograph is part of the
project. The int8 files are scored by `edgepress run imagenet_int8`, whose report counts the
pictures won and lost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.task import Predict
from recipes.imagenet_int8 import squeezenet
from recipes.pictures.opening import open_pictures
from recipes.pictures.preparing import Prepared
from recipes.pictures.sources import need_labels
from recipes.toolbox.scoring import outputs_of
from targets.artifact import Exporter, Runtime
from targets.formats.onnx import OnnxExporter
from targets.formats.tflite import TFLiteExporter
from targets.runtimes.litert import LiteRtRuntime
from targets.runtimes.onnxruntime import OnnxRuntime

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = Path(os.environ.get("EDGEPRESS_PHOTOS", BESIDE))
PHOTOS = DATA / "photos_500"
WEIGHTS = DATA / "squeezenet_v1.1_fp32" / "squeezenet_v1.1.safetensors"
RIGHT = 265

pytestmark = [
    pytest.mark.skipif(
        not (PHOTOS.is_dir() and WEIGHTS.is_file()),
        reason="set EDGEPRESS_PHOTOS to a folder with photos_500 and squeezenet_v1.1_fp32",
    ),
    pytest.mark.timeout(1800),
]


class Photos(NamedTuple):
    """The net, the prepared pictures, their labels, and torch's outputs."""

    net: Candidate
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    def outputs(self, predict: Predict) -> NDArray[np.float32]:
        blocks = outputs_of(self.pixels, self.net.spec.preprocess, predict, "scoring")
        return np.concatenate([outputs for _, outputs in blocks])


@pytest.fixture(scope="module")
def photos() -> Photos:
    net = squeezenet(WEIGHTS)
    pictures = open_pictures(PHOTOS, net.spec.classes)
    pixels = Prepared(pictures, net.spec.preprocess, (227, 227))[:]
    found = Photos(net, pixels, need_labels(pictures, "test"), np.empty(0, np.float32))
    return found._replace(logits=found.outputs(net.network.predict))


def test_torch_gets_as_many_right_as_was_published(photos: Photos) -> None:
    assert len(photos.labels) == 500
    assert (photos.logits.argmax(axis=1) == photos.labels).sum() == RIGHT


@pytest.mark.parametrize(
    ("exporter", "runtime"),
    [(OnnxExporter(), OnnxRuntime()), (TFLiteExporter(), LiteRtRuntime())],
    ids=["onnx", "tflite"],
)
def test_the_file_answers_as_torch_does(
    photos: Photos, exporter: Exporter, runtime: Runtime, tmp_path: Path
) -> None:
    """Wherever the two first classes lie further apart than the error can close."""
    artifact = exporter(photos.net, tmp_path / f"squeezenet{exporter.suffix}")
    found = photos.outputs(runtime.load(artifact.path).predict)
    error = float(np.abs(found - photos.logits).max())
    assert error < 1e-4 * float(np.abs(photos.logits).max())
    first_two = np.sort(photos.logits, axis=1)[:, -2:]
    clear = first_two[:, 1] - first_two[:, 0] > 2 * error
    assert (~clear).sum() <= 1
    answers, wanted = found.argmax(axis=1), photos.logits.argmax(axis=1)
    assert np.array_equal(answers[clear], wanted[clear])
    assert (answers == photos.labels).sum() == RIGHT
