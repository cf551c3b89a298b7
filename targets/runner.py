"""Times one file on the machine it runs on; pushed there as this one file.

    python runner.py '{"path": "net.onnx", "threads": 1, "runs": 50}'

prints one JSON line. It needs the standard library, numpy and the one runtime of the file
(onnxruntime for .onnx; ai_edge_litert, or tflite_runtime, its old name, for .tflite), and
imports nothing else of edgepress. One session a process: several thread pools in one process
spoil each other's times. Threads that spin while they wait look fast alone and starve everything
else on a phone, so spinning is off. Times are of one call at batch 1 on random input made
beforehand: session.run, or interpreter.invoke.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Run as a script its own folder comes first in the path, and a neighbour there may bear the name
# of a standard module.
if __name__ == "__main__" and sys.path and Path(sys.path[0]).resolve() == Path(__file__).parent:
    del sys.path[0]

import numpy as np
from numpy.typing import NDArray

_WINDOW = 5
_AGREE = 0.05
_LEAST_WARMUP_S = 0.1
_DEFAULTS: Mapping[str, int | float] = {
    "threads": 1,
    "runs": 100,
    "seed": 0,
    "warmup_s": 2.0,
    "max_s": 1.0,
}
_ORT_TYPES: Mapping[str, str] = {"float": "float32", "double": "float64"}


class MissingRuntimeError(ImportError):
    """The runtime of the file cannot be imported; `package` is the one to install."""

    def __init__(self, package: str, reasons: Sequence[str]) -> None:
        what = " ".join("; ".join(reasons).split())
        super().__init__(f"{package} cannot be imported ({what}); install it")
        self.package = package


class Engine(NamedTuple):
    """An imported runtime: `load` opens a file; `feed` gives it input, and what to time."""

    runtime: str
    version: str
    timed: str
    load: Callable[[str, int], Any]
    feed: Callable[[Any, np.random.Generator], tuple[Callable[[], object], str]]


def main(arguments: Sequence[str]) -> int:
    """Measure what the JSON request asks; one JSON line on stdout, {"error": ...} on failure.

    Where the runtime itself cannot be imported, "missing" names its package.
    """
    answer: dict[str, Any]
    try:
        if len(arguments) != 1:
            raise ValueError("give one argument, the request as JSON")
        answer = measure(json.loads(arguments[0]))
    except MissingRuntimeError as error:
        answer = {"error": str(error)[:500], "missing": error.package}
    # Whatever a runtime raises on a damaged file must come back as the one line of the protocol.
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        answer = {"error": f"{type(error).__name__}: {first[:1000]}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load, warm up and time request["path"]; times in nanoseconds, memory in bytes."""
    wanted = {**_DEFAULTS, **request}
    unknown = set(wanted) - set(_DEFAULTS) - {"path"}
    if unknown or "path" not in wanted:
        raise ValueError(f"request needs 'path' and allows {sorted(_DEFAULTS)}; got {request!r}")
    path = str(wanted["path"])
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist")
    find = {".onnx": _onnxruntime, ".tflite": _litert}.get(Path(path).suffix)
    if find is None:
        raise ValueError(f"{path} is neither .onnx nor .tflite")
    threads = int(wanted["threads"])
    engine = find()  # imports the runtime, which is no part of the load time
    # Made before, because numpy's random part is loaded late and is not the file's memory.
    generator = np.random.default_rng(int(wanted["seed"]))
    _reset_peak()
    base, begun = _memory("VmRSS"), time.perf_counter_ns()
    session = engine.load(path, threads)
    load_ns = time.perf_counter_ns() - begun
    loaded, peak_load = _memory("VmRSS"), _memory("VmHWM")
    call, provider = engine.feed(session, generator)
    gc.collect()
    gc.disable()
    first_ns = _timed(call)
    warmup, settled = _warm_up(call, float(wanted["warmup_s"]))
    times = _times(call, int(wanted["runs"]), float(wanted["max_s"]))
    return {
        "runtime": engine.runtime,
        "version": engine.version,
        "provider": provider,
        "timed": engine.timed,
        "threads": threads,
        "spinning": False,
        "load_ns": load_ns,
        "first_ns": first_ns,
        "warmup": warmup,
        "settled": settled,
        "times_ns": times,
        "rss_base_bytes": base,
        "rss_load_bytes": loaded,
        "peak_rss_load_bytes": peak_load,
        "peak_rss_bytes": _memory("VmHWM"),
        "environment": describe(),
    }


def _timed(call: Callable[[], object]) -> int:
    begun = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - begun


def _warm_up(call: Callable[[], object], limit_s: float) -> tuple[int, bool]:
    """Call until the medians of two windows agree within 5 %; (calls, whether they did)."""
    begun, count, previous = time.perf_counter(), 0, 0.0
    while True:
        window: list[int] = []
        while len(window) < _WINDOW:
            if time.perf_counter() - begun > limit_s:
                return count, False
            window.append(_timed(call))
            count += 1
        median = statistics.median(window)
        long_enough = time.perf_counter() - begun >= min(_LEAST_WARMUP_S, limit_s)
        if long_enough and abs(median - previous) <= _AGREE * median:
            return count, True
        previous = median


def _times(call: Callable[[], object], runs: int, limit_s: float) -> list[int]:
    """Up to `runs` times, fewer (at least 3) when they take longer than `limit_s` together."""
    begun = time.perf_counter()
    times: list[int] = []
    while len(times) < runs and (len(times) < 3 or time.perf_counter() - begun < limit_s):
        times.append(_timed(call))
    return times


def _onnxruntime() -> Engine:
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingRuntimeError("onnxruntime", [str(error)]) from error
    ort.set_default_logger_severity(3)

    def load(path: str, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def feed(session: Any, generator: np.random.Generator) -> tuple[Callable[[], object], str]:
        inputs: dict[str, NDArray[np.generic]] = {}
        for tensor in session.get_inputs():
            kind = str(tensor.type).removeprefix("tensor(").removesuffix(")")
            shape = _fixed(tensor.name, tensor.shape)
            inputs[tensor.name] = _random(generator, shape, np.dtype(_ORT_TYPES.get(kind, kind)))
        run = session.run
        return lambda: run(None, inputs), str(session.get_providers()[0])

    return Engine("onnxruntime", str(ort.__version__), "session.run", load, feed)


def _litert() -> Engine:
    package, interpreter_class = _tflite_runtime()

    def load(path: str, threads: int) -> Any:
        interpreter = interpreter_class(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        return interpreter

    def feed(session: Any, generator: np.random.Generator) -> tuple[Callable[[], object], str]:
        for tensor in session.get_input_details():
            shape = _fixed(tensor["name"], [int(n) for n in tensor["shape"]])
            values = _random(generator, shape, np.dtype(tensor["dtype"]))
            session.set_tensor(tensor["index"], values)
        delegated = _is_delegated(session)
        provider = "CPU" if delegated is None else "XNNPACK" if delegated else "built-in kernels"
        return session.invoke, provider

    return Engine(package, _version(package), "interpreter.invoke", load, feed)


def _tflite_runtime() -> tuple[str, Any]:
    reasons: list[str] = []
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{package}.interpreter")
            return package, module.Interpreter
        except (ImportError, AttributeError) as error:
            reasons.append(str(error))
    raise MissingRuntimeError("ai_edge_litert", reasons)


def _is_delegated(interpreter: Any) -> bool | None:
    """Whether a delegate took operators over; None where this runtime does not tell."""
    details = getattr(interpreter, "_get_ops_details", None)
    return None if details is None else any(o["op_name"] == "DELEGATE" for o in details())


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "unknown"


def _fixed(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """The shape at batch 1. Raises ValueError where more than the batch is free."""
    sizes = [1 if i == 0 and not isinstance(n, int) else n for i, n in enumerate(shape)]
    if not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(f"input {name!r} has free dimensions {list(shape)}; export fixed ones")
    return tuple(int(n) for n in sizes)


def _random(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[np.generic]:
    """Normal floats; integers over the whole range of small types, 0 or 1 for the others."""
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, int(limits.max) + 1, shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def _reset_peak() -> None:
    """Forget the peak of the imports, so that the peak is that of the file (Linux only)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int | None:
    """VmRSS or VmHWM (its peak) in bytes. Not ru_maxrss: Linux hands that down from the parent.

    None where there is no /proc; only the peak is known there, from ru_maxrss.
    """
    shown = _lines("/proc/self/status").get(field)
    if shown is not None:
        return int(shown.split()[0]) * 1024
    if field == "VmHWM" and sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def describe() -> dict[str, str | int | float | None]:
    """This machine: cpu, cores, clock governor, memory, system, Python. None: not shown."""
    governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    memory = _lines("/proc/meminfo").get("MemTotal", "").split()
    return {
        "cpu": _cpu(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "governor": _text(governor),
        "memory_bytes": int(memory[0]) * 1024 if memory else None,
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu() -> str | None:
    """The processor's name; on ARM Linux, which gives numbers instead, those."""
    shown = _lines("/proc/cpuinfo")
    if "model name" in shown:
        return shown["model name"]
    if "CPU part" in shown:
        return f"ARM implementer {shown.get('CPU implementer', '?')} part {shown['CPU part']}"
    return platform.processor() or None


def _lines(path: str) -> dict[str, str]:
    """'key : value' lines of a /proc file; the last of each key."""
    pairs = (line.partition(":") for line in (_text(path) or "").splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
