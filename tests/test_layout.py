"""The shape of the house, checked over syntax trees: who may import whom, who may print."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each package may import itself and those before it.
ORDER = ("compress", "targets", "recipes")
TOP_LEVEL = {
    *ORDER,
    "tests",
    "pyproject.toml",
    "README.md",
    # what tools need
    ".ci",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    "LICENSE",
    "Makefile",
    "NOTICE",
    "requirements.lock",
}
# Slow to import or an extra: one file each knows them, lazily, and says what to install.
HEAVY = (
    "PIL",
    "accelerate",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "litert_torch",
    "matplotlib",
    "numba",
    "onnxscript",
    "sklearn",
    "torch_pruning",
    "torchvision",
)
LEAN_WITHOUT = ("torch", "sklearn", "scipy", "onnx", "onnxruntime", *HEAVY)


@functools.cache
def sources(package: str) -> tuple[Path, ...]:
    return tuple(sorted((ROOT / package).rglob("*.py")))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def is_type_checking(node: ast.AST) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def nodes(node: ast.AST, with_types: bool) -> Iterator[ast.AST]:
    """All nodes below; without `with_types`, not those that only a type checker sees."""
    yield node
    below: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and is_type_checking(node) and not with_types:
        below = list(node.orelse)
    for child in below:
        yield from nodes(child, with_types)


def imports(module: ast.Module, package: str, with_types: bool = True) -> set[str]:
    """Full dotted names that a module of `package` imports, by statement or by import_module."""
    names: set[str] = set()
    for node in nodes(module, with_types):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                names.add(first.value)
    return names


def called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def roots(path: Path, with_types: bool = True) -> set[str]:
    return {name.partition(".")[0] for name in imports(tree(path), package_of(path), with_types)}


def test_the_import_reader_sees_every_form() -> None:
    """A reader that saw nothing would let the laws below pass for nothing."""
    module = ast.parse(
        "import a.b as c\nfrom d import e\nfrom . import f\nfrom ..g import h\n"
        "def late():\n    import i\n    importlib.import_module('j.k')\n"
        "if TYPE_CHECKING:\n    import l\nelse:\n    import m\n"
    )
    found = imports(module, "compress.models")
    assert {"a.b", "d.e", "compress.models.f", "compress.g.h", "i", "j.k", "l", "m"} <= found
    assert "l" not in imports(module, "compress.models", with_types=False)
    assert "m" in imports(module, "compress.models", with_types=False)


@pytest.mark.parametrize("package", ORDER)
def test_imports_never_go_back(package: str) -> None:
    assert sources(package), f"no source found in {package}/"
    later = {*ORDER[ORDER.index(package) + 1 :], "tests"}
    back = {str(p.relative_to(ROOT)): sorted(roots(p) & later) for p in sources(package)}
    assert {path: names for path, names in back.items() if names} == {}


def test_each_heavy_package_has_one_import_site() -> None:
    sites: dict[str, list[str]] = defaultdict(list)
    for path in (p for package in ORDER for p in sources(package)):
        for name in roots(path, with_types=False) & set(HEAVY):
            sites[name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in sites.items() if len(files) > 1} == {}


@pytest.mark.parametrize("package", ["compress", "targets"])
def test_only_recipes_print(package: str) -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(package)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and called(node) == "print"
    ]
    assert printing == []


def test_no_pickle_in_the_product() -> None:
    """The script that made the MNIST files is no part of the product."""
    readers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    found = {
        str(path.relative_to(ROOT))
        for package in ORDER
        for path in sources(package)
        if roots(path) & readers
    }
    assert found - {"recipes/data/make_mnist.py"} == set()


def test_torch_load_reads_weights_only() -> None:
    """`torch.load` without weights_only=True would run what a checkpoint says."""
    unsafe = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ORDER
        for path in sources(package)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "torch.load"
        and "weights_only=True" not in [ast.unparse(keyword) for keyword in node.keywords]
    ]
    assert unsafe == []


def test_import_compress_is_lean() -> None:
    script = "import json, sys, compress; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "compress" in loaded
    assert loaded & set(LEAN_WITHOUT) == set()


def test_top_level_is_fixed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: local outputs cannot be told from sources")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    top = {name.partition("/")[0] for name in tracked if name}
    assert top - TOP_LEVEL == set()
    assert set(ORDER) <= top


def test_every_package_folder_is_a_package() -> None:
    """A folder without __init__.py works from a checkout and is missing from a wheel."""
    folders = {path.parent for package in ORDER for path in sources(package)}
    data = {ROOT / "recipes" / "data"}
    assert {
        str(f.relative_to(ROOT)) for f in folders - data if not (f / "__init__.py").exists()
    } == set()
