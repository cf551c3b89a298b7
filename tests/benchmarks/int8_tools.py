"""Makes a float net int8 by one tool, in that tool's own interpreter.

    python tests/benchmarks/int8_tools.py TOOL FOLDER

FOLDER holds what all start from: `fp32.onnx`, `fp32.tflite`, `folded.safetensors` (ours) and
`calibration.npy` (float32 N x C x H x W, as the net takes them). The file becomes FOLDER/TOOL.onnx
or .tflite, what it took and who made it FOLDER/TOOL.json. Seconds: calibration, quantization and
the file, without imports, tracing the float net and decoding pictures.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

CHECKOUT = Path(__file__).parents[2]
Pictures = np.ndarray
# What is done once everything is imported and loaded: the timed part. It may give the seconds that
# calibration and quantization took of it, where the file is written apart.
Work = Callable[[], float | None]


def stages_of(name: str) -> tuple[Any, ...]:
    """'mse', 'minmax', 'percentile': QuantizeInt8 alone; the others are stages of imagenet_int8.

    'repaired': channels balanced and biases corrected; 'distilled': a short training then.
    """
    from compress.stages.quantize_int8 import QuantizeInt8
    from recipes.imagenet_int8 import INT8

    named = {"repaired": INT8["squeezenet"], "distilled": INT8["mobilenet_v2"]}
    return named.get(name) or (QuantizeInt8(name),)  # type: ignore[arg-type]


def ours(name: str, folder: Path, pictures: Pictures, target: Path) -> Work:
    from compress.checkpoint import load_candidate
    from compress.task import Task
    from targets.formats.onnx import OnnxExporter
    from targets.formats.tflite import TFLiteExporter

    candidate = load_candidate(folder / "folded.safetensors")
    task = Task(
        evaluate=lambda _: {},
        calibration=lambda: (pictures[i : i + 25] for i in range(0, len(pictures), 25)),
        fingerprint="peers",
        seed=0,
    )
    export = OnnxExporter() if target.suffix == ".onnx" else TFLiteExporter()
    stages = stages_of(name)
    # The others start from a net that has been traced: the .onnx or .tflite.
    assert candidate.network.graph.nodes

    def work() -> float:
        start = time.perf_counter()
        made = candidate
        for stage in stages:
            made = stage(made, task).candidate
        quantized = time.perf_counter() - start
        export(made, target)
        return quantized

    return work


def quantize_static(folder: Path, pictures: Pictures, target: Path) -> Work:
    import onnx
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(folder / "fp32.onnx").graph.input[0].name
    given: Iterator[dict[str, Any]] = ({name: one[None]} for one in pictures)

    class Reader(q.CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:
            return next(given, None)

    def work() -> None:
        ready = folder / "quantize_static.ready.onnx"
        quant_pre_process(str(folder / "fp32.onnx"), str(ready))
        types = {"activation_type": q.QuantType.QUInt8, "weight_type": q.QuantType.QInt8}
        q.quantize_static(str(ready), str(target), Reader(), per_channel=True, **types)
        ready.unlink()

    return work


def nncf(folder: Path, pictures: Pictures, target: Path) -> Work:
    import nncf
    import onnx

    model = onnx.load(folder / "fp32.onnx")
    name = model.graph.input[0].name
    data = nncf.Dataset(pictures, lambda one: {name: one[None]})

    def work() -> None:
        onnx.save(nncf.quantize(model, data, subset_size=len(pictures)), target)

    return work


def aimet(folder: Path, pictures: Pictures, target: Path) -> Work:
    import aimet_onnx
    import onnx

    model = onnx.load(folder / "fp32.onnx")
    name = model.graph.input[0].name
    common = Path(aimet_onnx.__file__).parent / "common" / "quantsim_config"
    config = str(common / "default_config_per_channel.json")

    def work() -> None:
        sim = aimet_onnx.QuantizationSimModel(
            model, config_file=config, providers=["CPUExecutionProvider"]
        )
        sim.compute_encodings([{name: one[None]} for one in pictures])
        onnx.save(sim.to_onnx_qdq(), target)

    return work


def neural_compressor(folder: Path, pictures: Pictures, target: Path) -> Work:
    import torch
    from neural_compressor.torch import export, quantization

    from compress.checkpoint import load_candidate

    net = load_candidate(folder / "folded.safetensors").network.module().eval()
    first = torch.from_numpy(pictures[:1])

    def work() -> None:
        program = export.export(net, (first,))
        made = quantization.prepare(program, quantization.get_default_static_config())
        for one in pictures:
            made(torch.from_numpy(one[None]))
        options = {"dynamo": True, "opset_version": 18, "external_data": False, "verbose": False}
        torch.onnx.export(quantization.convert(made), (first,), str(target), **options)

    return work


def ai_edge(folder: Path, pictures: Pictures, target: Path) -> Work:
    """Least and greatest value of each tensor over all pictures, not its moving average."""
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(folder / "fp32.tflite"))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    from targets.runtimes.litert import LiteRtRuntime

    name = LiteRtRuntime().load(folder / "fp32.tflite").inputs[0].name

    def work() -> None:
        merged: dict[str, Any] = {}
        for one in pictures:
            feed = {name: np.ascontiguousarray(one[None].transpose(0, 2, 3, 1))}
            found = made.calibrate({"serving_default": [feed]})
            for tensor, seen in found.items():
                old = merged.setdefault(tensor, seen)
                for end, least in (("min", np.minimum), ("max", np.maximum)):
                    if seen.get(end) is not None:
                        old[end] = least(old[end], seen[end])
        made.quantize(merged).export_model(str(target), overwrite=True)

    return work


def pt2e(folder: Path, pictures: Pictures, target: Path) -> Work:
    """The stock route: torch.export, PT2E with LiteRT's quantizer, litert_torch.convert."""
    import litert_torch
    import torch
    from litert_torch.quantize import pt2e_quantizer as lq
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from compress.checkpoint import load_candidate

    net = load_candidate(folder / "folded.safetensors").network.module().eval()
    last = litert_torch.to_channel_last_io(net, args=[0]).eval()
    turned = [torch.from_numpy(one[None].transpose(0, 2, 3, 1).copy()) for one in pictures]

    def work() -> None:
        config = lq.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
        maker = lq.PT2EQuantizer().set_global(config)
        made = prepare_pt2e(torch.export.export(last, (turned[0],)).module(), maker)
        for one in turned:
            made(one)
        made = convert_pt2e(made, fold_quantize=False)
        options = QuantConfig(pt2e_quantizer=maker)
        litert_torch.convert(made, (turned[0],), quant_config=options).export(str(target))

    return work


# tool: (suffix, package that says its version, how)
TOOLS: dict[str, tuple[str, str, Callable[[Path, Pictures, Path], Work]]] = {
    "quantize_static": (".onnx", "onnxruntime", quantize_static),
    "nncf": (".onnx", "nncf", nncf),
    "neural-compressor-pt": (".onnx", "neural-compressor-pt", neural_compressor),
    "aimet-onnx": (".onnx", "aimet-onnx", aimet),
    "ai-edge-quantizer": (".tflite", "ai-edge-quantizer", ai_edge),
    "litert-torch-pt2e": (".tflite", "litert-torch", pt2e),
}


def tool(name: str) -> tuple[str, str, Callable[[Path, Pictures, Path], Work]]:
    """As in TOOLS; ours are named 'edgepress-STAGE-onnx' and '-tflite' (see `stages_of`)."""
    if name in TOOLS:
        return TOOLS[name]
    _, stage, form = name.split("-")
    return f".{form}", "edgepress", lambda *given: ours(stage, *given)


def made_by(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def main(name: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    suffix, package, prepare = tool(name)
    pictures = np.load(folder / "calibration.npy")
    target = folder / f"{name}{suffix}"
    work = prepare(folder, pictures, target)
    start = time.perf_counter()
    quantized = work()
    told = {
        "tool": name,
        "version": made_by(package),
        "seconds": time.perf_counter() - start,
        "quantize_seconds": quantized,
        "file": target.name,
    }
    (folder / f"{name}.json").write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    main(sys.argv[1], Path(sys.argv[2]))
