"""The runtime's old name, tflite_runtime, in an environment of its own gives the same integers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.candidate import Candidate
from targets.artifact import Artifact
from targets.runtimes.litert import LiteRtRuntime
from tests.digits import digits

ROOT = Path(__file__).resolve().parents[3]
# The last release under the old name; its numpy is the last before version 2.
PACKAGES = ("tflite-runtime==2.14.0", "numpy==1.26.4")
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from targets.runtimes.litert import LiteRtRuntime
path, pictures, answer, cut = map(Path, sys.argv[1:])
session = LiteRtRuntime(delegate=False).load(path)
batch = np.load(pictures)
np.save(answer, session.predict_raw(batch))
assert len(session.tensors(batch[:1])) > 3
try:
    LiteRtRuntime().load(cut)
except Exception as error:
    print(type(error).__name__, session.provider, np.__version__, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the old runtime alone; skips where pip cannot get it."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14.0 has no wheel for Python 3.12 and later")
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PACKAGES],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        pytest.skip(f"pip cannot get {', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
    return python


def test_the_old_runtime_gives_the_same_integers(
    old_python: Path, int8_file: Callable[[str], tuple[Candidate, Artifact]], tmp_path: Path
) -> None:
    path = int8_file("residual")[1].path
    pictures = digits()["test"].images[:100]
    np.save(tmp_path / "x.npy", pictures)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(path.read_bytes()[:-100])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [
            str(old_python),
            "-c",
            SCRIPT,
            str(path),
            str(tmp_path / "x.npy"),
            str(tmp_path / "y.npy"),
            str(cut),
        ],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["DataError", "CPU", "1.26.4", "False"]
    given = np.load(tmp_path / "y.npy")
    assert given.dtype == np.int8
    wanted = LiteRtRuntime(delegate=False).load(path).predict_raw(pictures)
    np.testing.assert_array_equal(given, wanted)
