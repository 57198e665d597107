"""The choice of a Java installation, and the error if none is suitable."""

from pathlib import Path

import pytest

from corpus_reranker.errors import ConfigError
from corpus_reranker.retrieval.java import find_java

SUITABLE = "java.base@21.0.1\njdk.incubator.vector@21.0.1\n"
OLD = "java.base@17.0.15\njdk.incubator.vector@17.0.15\n"
WITHOUT_VECTOR = "java.base@21.0.1\njava.logging@21.0.1\n"


def install_java(home: Path, modules: str) -> Path:
    """A script `java` that prints `modules`."""
    binary = home / "bin" / "java"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\ncat <<'END'\n{modules}END\n")
    binary.chmod(0o755)
    return home


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No Java but the ones that the test installs."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return monkeypatch


def test_java_home_comes_first(no_java: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = install_java(tmp_path / "home", SUITABLE)
    other = install_java(tmp_path / "other", SUITABLE)
    no_java.setenv("JAVA_HOME", str(home))
    no_java.setattr("shutil.which", lambda name: str(other / "bin" / "java"))
    assert find_java() == home


@pytest.mark.parametrize("unsuitable", [OLD, WITHOUT_VECTOR, ""])
def test_an_unsuitable_java_home_is_skipped(no_java: pytest.MonkeyPatch, tmp_path: Path, unsuitable: str) -> None:
    no_java.setenv("JAVA_HOME", str(install_java(tmp_path / "unsuitable", unsuitable)))
    link = tmp_path / "java"
    link.symlink_to(install_java(tmp_path / "suitable", SUITABLE) / "bin" / "java")
    no_java.setattr("shutil.which", lambda name: str(link))
    assert find_java() == tmp_path / "suitable"


def test_without_java_the_error_names_the_package_to_install(no_java: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as error:
        find_java()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in ("Java 21", "jdk.incubator.vector", "no java on the PATH", "install"))


def test_the_error_lists_the_installations_found(no_java: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_java.setenv("JAVA_HOME", str(install_java(tmp_path / "a", WITHOUT_VECTOR)))
    no_java.setattr("shutil.which", lambda name: str(install_java(tmp_path / "b", OLD) / "bin" / "java"))
    with pytest.raises(ConfigError, match=r"JAVA_HOME is .*/a: Java 21 without jdk.incubator.vector; .*/b: Java 17"):
        find_java()


def test_a_java_that_cannot_be_run_is_not_suitable(no_java: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_java.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="cannot be run"):
        find_java()


def test_the_jre_of_the_wheel_is_suitable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("arcadedb_embedded", reason="the wheel with a JRE is not installed")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert find_java().name == "jre"
