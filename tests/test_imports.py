"""Layers point one way, the core stays light, and private internals stay in one module each."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers.paths import REPOSITORY

SOURCE_ROOT = REPOSITORY / "pipeline"
PACKAGE = SOURCE_ROOT / "corpus_reranker"
HEAVY = ["ray", "vllm", "torch", "transformers", "pyarrow"]

PRIVATE = {
    "ray.data._internal": "dataflow/ray_compat.py",
    "ray._private": "dataflow/ray_compat.py",
    "vllm.v1.engine": "engines/vllm/compat.py",
}
"""Prefixes of private modules and the one file that may import them."""


def _modules_of(package: str) -> list[str]:
    files = sorted((PACKAGE / package).rglob("*.py"))
    return [".".join(file.relative_to(SOURCE_ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"]
    linted = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("package", ["ranking", "answers", "prompts"])
def test_a_clean_interpreter_loads_nothing_heavy_with_the_core(package: str) -> None:
    modules = _modules_of(package)
    assert modules
    code = f"import sys, {', '.join(modules)}\nprint(*(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=SOURCE_ROOT, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(("prefix", "owner"), PRIVATE.items())
def test_private_internals_are_imported_by_one_module(prefix: str, owner: str) -> None:
    importers = {
        file for file, names in _imports().items() if any(f"{name}.".startswith(f"{prefix}.") for name in names)
    }
    assert importers <= {owner}


@cache
def _imports() -> dict[str, list[str]]:
    """The modules that each file of the package imports, by the file's path in the package."""
    return {str(file.relative_to(PACKAGE)): list(_imports_of(file)) for file in PACKAGE.rglob("*.py")}


def _imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
