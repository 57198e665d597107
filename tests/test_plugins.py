"""Classes that a config names."""

from pathlib import Path

import pytest

from corpus_reranker.plugins import load_class, registered_name

REGISTERED = {"path": "pathlib:Path", "purest": "pathlib:PurePath"}


def test_class_is_loaded_by_name_or_module() -> None:
    assert load_class("thing", "path", REGISTERED) is Path
    assert load_class("thing", "pathlib:PosixPath", REGISTERED).__name__ == "PosixPath"


def test_registered_name_is_preferred() -> None:
    assert registered_name(Path, REGISTERED) == "path"
    assert registered_name(Path, {}) == "pathlib:Path"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("paths", "unknown thing 'paths'; did you mean 'path'"),
        ("zzz", "unknown thing 'zzz'; one of path, purest, or \"module:Class\""),
        ("no_such_module:Thing", "cannot load thing 'no_such_module:Thing': ModuleNotFoundError"),
        ("pathlib:NoSuchClass", "cannot load thing 'pathlib:NoSuchClass': AttributeError"),
    ],
)
def test_class_that_cannot_be_loaded_is_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_class("thing", name, REGISTERED)


def test_error_in_an_outside_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot load thing 'outside_broken:Thing': ZeroDivisionError"):
        load_class("thing", "outside_broken:Thing", {})
