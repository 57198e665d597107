"""Dependencies run one way, records <- ranking, prompting <- engines, storage <- dataflow; pure rooms stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = Path(__file__).resolve().parent.parent / "pipeline"

SHARED_WORDS = {"records", "errors", "settings"}
MAY_IMPORT = {
    "ranking": SHARED_WORDS,
    "prompting": SHARED_WORDS,
    "engines": {*SHARED_WORDS, "ranking", "prompting"},
    "storage": {*SHARED_WORDS, "ranking", "prompting"},
}
HEAVY = ["ray", "vllm", "torch", "transformers", "pyarrow"]


def modules_of(remaining_tokens: str) -> list[str]:
    files = sorted((PIPELINE / remaining_tokens).rglob("*.py"))
    return [
        ".".join(file.relative_to(PIPELINE.parent).with_suffix("").parts).removesuffix(".__init__") for file in files
    ]


@pytest.mark.parametrize("remaining_tokens", ["ranking", "prompting"])
def test_pure_rooms_load_nothing_heavy(remaining_tokens: str) -> None:
    modules = modules_of(remaining_tokens)
    assert len(modules) > 3
    code = f"import sys, {', '.join(modules)}\nprint(*(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PIPELINE.parent, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("remaining_tokens", MAY_IMPORT)
def test_dependencies_run_one_way(remaining_tokens: str) -> None:
    imported = {name for file in (PIPELINE / remaining_tokens).rglob("*.py") for name in _rooms_imported(file)}
    assert imported - {remaining_tokens} <= MAY_IMPORT[remaining_tokens]


def _rooms_imported(file: Path) -> set[str]:
    """The parts of `pipeline` that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            names += [f"pipeline.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names += [node.module or ""]
    return {name.split(".")[1] for name in names if name.startswith("pipeline.")}


def test_only_dataflow_imports_ray() -> None:
    outside = [file for file in PIPELINE.rglob("*.py") if file.parent.name != "dataflow"]
    assert [str(file) for file in outside if "ray" in _imported_when_loaded(file)] == []


def _imported_when_loaded(file: Path) -> set[str]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}
