"""The C++ loader, compiled and run: its input and outputs are edgepress's own.

Needs g++, onnxruntime's C++ header and nlohmann/json where the compiler looks for them (or in the
folders of CPLUS_INCLUDE_PATH); the library is that of the Python package.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.spec import ModelSpec, Preprocess, TensorSpec
from recipes.pictures.preparing import prepare
from targets.formats.onnx import OnnxExporter
from targets.runtimes.onnxruntime import OnnxRuntime
from tests.candidates import fresh
from tests.nets import digits_residual_spec

LOADERS = Path(__file__).resolve().parent.parent.parent / "recipes" / "loaders"
MAIN = """
#include <fstream>
#include <iostream>
#include <iterator>
#include "onnxruntime.hpp"

// PICTURE: raw RGB bytes. Prints the class, then the probability; writes logits, or with
// a JSON text for FILE the prepared input, as raw floats.
int main(int, char** argv) {
  std::ifstream file(argv[2], std::ios::binary);
  edgepress::Image image{std::stoi(argv[3]), std::stoi(argv[4]), {}};
  image.rgb.assign(std::istreambuf_iterator<char>(file), {});
  std::vector<float> values;
  const std::string name = argv[1];
  if (name.size() > 5 && name.substr(name.size() - 5) == ".json") {
    std::ifstream text(name);
    values = edgepress::prepare(image, nlohmann::json::parse(text));
  } else {
    edgepress::OnnxClassifier net(argv[1]);
    const auto [label, probability] = net.classify(image);
    std::cout << label << " " << probability << "\\n";
    values = net.logits(image);
  }
  std::ofstream(argv[5], std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), 4 * values.size());
}
"""


@functools.cache
def _missing() -> str:
    """Why the loader cannot be compiled here; empty where it can."""
    if shutil.which("g++") is None:
        return "no g++"
    for header in ("onnxruntime_cxx_api.h", "nlohmann/json.hpp"):
        probe = f"#if !__has_include(<{header}>)\n#error\n#endif\n"
        command = ["g++", "-E", "-x", "c++", "-"]
        if subprocess.run(
            command, input=probe, capture_output=True, text=True, check=False
        ).returncode:
            return f"g++ does not find {header}"
    return "" if _library() else "the onnxruntime package has no libonnxruntime.so"


def _library() -> Path | None:
    import onnxruntime

    found = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")
    return next(iter(sorted(found)), None)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if _missing():
        pytest.skip(f"the C++ loader was not compiled: {_missing()}")
    folder = tmp_path_factory.mktemp("loader")
    library = _library()
    assert library is not None
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name that it was linked under
    (folder / "main.cpp").write_text(MAIN)
    warnings = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{LOADERS / 'cpp'}")
    linking = (str(folder / "libonnxruntime.so.1"), f"-Wl,-rpath,{folder}")
    command = ["g++", *warnings, str(folder / "main.cpp"), *linking, "-o", str(folder / "loader")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "loader"


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth colours with noise and hard edges, (H, W, 3)."""
    rng = np.random.default_rng(height * width)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 7), np.cos(columns / 11), np.sign(np.sin((rows + columns) / 5))]
    noisy = 128 + 90 * np.stack(waves, axis=2) + rng.normal(0, 25, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def ask(program: Path, file: Path, pixels: NDArray[np.uint8]) -> tuple[str, NDArray[np.float32]]:
    """(what the program prints, the floats that it writes)."""
    raw, found = file.with_suffix(".rgb"), file.with_suffix(".floats")
    raw.write_bytes(pixels.tobytes())
    height, width = pixels.shape[:2]
    command = [program, file, raw, str(width), str(height), found]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, np.fromfile(found, np.float32)


def net_for(preprocess: Preprocess) -> Candidate:
    known: ModelSpec = digits_residual_spec()
    assert known.inputs == (TensorSpec("input", (1, 1, 8, 8)),)
    names = tuple(f"digit {n}" for n in range(10))
    return fresh(lambda: replace(known, classes=names, preprocess=preprocess))


@pytest.mark.parametrize(
    ("preprocess", "shape"),
    [
        (Preprocess(resize=64, crop=57, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)), (101, 150)),
        (Preprocess(resize=64, crop=50), (150, 101)),
        (Preprocess(resize=96, crop=96, antialias=True), (51, 40)),
        (
            Preprocess(
                resize=(64, 64),
                crop=57,
                antialias=False,
                channel_order="BGR",
                scale=1.0,
                mean=(104.0, 117.0, 123.0),
            ),
            (75, 120),
        ),
        (Preprocess(channel_order="GREY", resize=28, mean=(0.13,), std=(0.3,)), (61, 61)),
        (Preprocess(crop=30), (33, 41)),
    ],
    ids=["shorter-side", "upright", "enlarged", "caffe", "grey", "crop-only"],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_input_is_ours(
    program: Path, preprocess: Preprocess, shape: tuple[int, int], layout: str, tmp_path: Path
) -> None:
    from targets.metadata import artifact_metadata

    pixels = picture(*shape)
    about = tmp_path / "about.json"
    inputs = (TensorSpec("input", (1, 1, 8, 8), "float32", layout),)  # type: ignore[arg-type]
    about.write_text(artifact_metadata(net_for(preprocess), inputs))
    _, found = ask(program, about, pixels)
    wanted = preprocess.normalise(prepare(preprocess, pixels, "picture")[np.newaxis])[0]
    if layout == "NHWC":
        wanted = wanted.transpose(1, 2, 0)
    step = preprocess.scale / min(preprocess.std)
    off = np.abs(found - wanted.reshape(-1))
    # Without antialiasing the sums are rounded once: half a pixel may fall on either side.
    assert off.max() <= (1e-4 if preprocess.antialias else 1.01) * step
    assert (off > 1e-4 * step).mean() <= 0.002


def test_the_answer_is_ours(program: Path, tmp_path: Path) -> None:
    net = net_for(Preprocess(channel_order="GREY", resize=8, std=(0.25,)))
    artifact = OnnxExporter()(net, tmp_path / "net.onnx")
    pixels = picture(40, 40)
    said, found = ask(program, artifact.path, pixels)
    batch = net.spec.preprocess.normalise(
        prepare(net.spec.preprocess, pixels, "picture")[np.newaxis]
    )
    wanted = OnnxRuntime().load(artifact.path).predict(batch)[0]
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    best = int(wanted.argmax())
    label, _, probability = said.strip().rpartition(" ")
    assert label == f"digit {best}"
    weights = np.exp(wanted - wanted.max())
    assert float(probability) == pytest.approx(1 / weights.sum(), abs=2e-3)
