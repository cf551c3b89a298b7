"""LiteRT on the processor: with XNNPACK where it is on by itself ("cpu"), or without ("plain")."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from .engine import Engine, Fed, MissingRuntimeError
from .inputs import fixed, random_input


def engine(name: str) -> Engine:
    """ai_edge_litert, or tflite_runtime, its old name; "plain": the built-in kernels alone."""
    package, module, interpreter_class = _import()
    chosen: dict[str, Any] = {}
    if name == "plain":
        resolvers = module.OpResolverType
        chosen["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def load(path: str, threads: int) -> Any:
        interpreter = interpreter_class(model_path=path, num_threads=threads, **chosen)
        interpreter.allocate_tensors()
        return interpreter

    return Engine(package, version_of(package), "interpreter.invoke", load, _feed)


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


def _feed(session: Any, generator: np.random.Generator) -> Fed:
    for tensor in session.get_input_details():
        shape = fixed(tensor["name"], [int(n) for n in tensor["shape"]])
        values = random_input(generator, shape, np.dtype(tensor["dtype"]))
        session.set_tensor(tensor["index"], values)
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
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "unknown"
