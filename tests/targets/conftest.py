"""Files that several tests look at, written once a session: the converter takes seconds."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from compress.candidate import Candidate
from compress.stages.fold_batchnorm import FoldBatchNorm
from compress.stages.quantize_int8 import QuantizeInt8
from targets.artifact import Artifact
from targets.formats.tflite import TFLiteExporter
from tests.digits import Trained


@pytest.fixture(scope="session")
def int8_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Candidate, Artifact]]:
    """(int8 candidate, its .tflite file) of the digits net 'residual', 'branch' or 'plain'."""

    @functools.cache
    def make(name: str) -> tuple[Candidate, Artifact]:
        net: Trained = request.getfixturevalue(f"trained_{name}")
        candidate = net.candidate
        for stage in (FoldBatchNorm(), QuantizeInt8()):
            candidate = stage(candidate, net.task).candidate
        path = tmp_path_factory.mktemp("int8") / f"{name}.tflite"
        return candidate, TFLiteExporter()(candidate, path)

    return make
