"""Everything of a kind in a package, found by walking it: nobody can forget to enlist a new one."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType


def classes_in(package: ModuleType, fits: Callable[[type], bool]) -> dict[str, type]:
    """Public classes that `fits`, by name, each from the module that defines it."""
    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in inspect.getmembers(module, inspect.isclass):
            own = value.__module__ == module.__name__ and not name.startswith("_")
            if own and fits(value):
                assert name not in found, f"two classes are called {name}"
                found[name] = value
    return found
