"""Digests of the code that determines a ranking, so that no run mixes the rankings of two versions."""

import ast
import functools
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

import corpus_reranker

_PACKAGES = ("answers", "prompts", "ranking")


def code_fingerprint(classes: Iterable[type]) -> dict[str, str]:
    """The digests of the packages answers, prompts and ranking, by name.

    Comments, docstrings, layout and the location of the package do not change them.

    Args:
        classes: The strategy and the answer parser. The module of a class from outside the package has a digest too.
    """
    modules = {cls.__module__: sys.modules[cls.__module__].__file__ for cls in classes}
    outside = {
        name: _hash(Path(path).read_bytes())
        for name, path in modules.items()
        if path is not None and name.partition(".")[0] != corpus_reranker.__name__
    }
    return _package_digests() | outside


def code_structure(source: str) -> str:
    """The syntax tree of Python source without docstrings, the same in every version of Python that parses it."""
    return repr(_structure(ast.parse(source)))


@functools.cache
def _package_digests() -> dict[str, str]:
    root = Path(corpus_reranker.__file__).parent
    return {name: _hash(_package_code(root / name).encode()) for name in _PACKAGES}


def _package_code(folder: Path) -> str:
    paths = sorted(folder.rglob("*.py"))
    modules = [(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
    return "\n".join(f"{name}: {code_structure(source)}" for name, source in modules)


def _structure(node: object) -> object:
    """Nested lists of the node's type and fields. Newer versions of Python have more fields, which are empty here."""
    if isinstance(node, ast.AST):
        fields = [(name, _structure(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_structure(each) for each in node if not _is_docstring(each)]
    return node


def _is_docstring(node: object) -> bool:
    """Whether a statement is only a string: the docstring of a function, or of the constant above it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
