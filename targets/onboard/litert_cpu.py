"""LiteRT on the processor: with XNNPACK where it is on by itself ("cpu"), or without ("plain")."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine, Fed, MissingRuntimeError, Taken, Wanted
from .inputs import fixed, random_input


def engine(wanted: Wanted) -> Engine:
    """ai_edge_litert, or tflite_runtime, its old name; "plain": the built-in kernels alone."""
    package, module, interpreter_class = _import()
    chosen: dict[str, Any] = {}
    if wanted.name == "plain":
        resolvers = module.OpResolverType
        chosen["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def load(path: str, threads: int) -> Any:
        interpreter = interpreter_class(model_path=path, num_threads=threads, **chosen)
        interpreter.allocate_tensors()
        return interpreter

    version = version_of(package)
    return Engine(package, version, "interpreter.invoke", load, _feed, _takes, _answer)


def _import() -> tuple[str, Any, Any]:
    reasons: list[str] = []
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{package}.interpreter")
            # tflite_runtime under numpy 2 fails so late.
            return package, module, module.Interpreter
        except (ImportError, AttributeError) as error:
            reasons.append(str(error))
    raise MissingRuntimeError("ai_edge_litert", reasons)


def _takes(session: Any) -> Taken:
    return [
        (fixed(t["name"], [int(n) for n in t["shape"]]), np.dtype(t["dtype"]))
        for t in session.get_input_details()
    ]


def _answer(session: Any, value: NDArray[Any]) -> NDArray[Any]:
    session.set_tensor(session.get_input_details()[0]["index"], value)
    session.invoke()
    found: NDArray[Any] = session.get_tensor(session.get_output_details()[0]["index"])
    return found


def _feed(session: Any, generator: np.random.Generator) -> Fed:
    details = session.get_input_details()
    for tensor, (shape, dtype) in zip(details, _takes(session), strict=True):
        session.set_tensor(tensor["index"], random_input(generator, shape, dtype))
    delegated = _is_delegated(session)
    provider = "CPU" if delegated is None else "XNNPACK" if delegated else "built-in kernels"
    return Fed(session.invoke, provider)


def _is_delegated(interpreter: Any) -> bool | None:
    """Whether a delegate took operators over; None where this runtime does not tell."""
    details = getattr(interpreter, "_get_ops_details", None)
    return None if details is None else any(o["op_name"] == "DELEGATE" for o in details())


def version_of(package: str) -> str:
    """The installed package's version, "unknown" where it does not say."""
    try:
        return metadata.version(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "unknown"
