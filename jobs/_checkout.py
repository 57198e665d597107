"""Lets the scripts of this folder, and the Ray workers that they start, import the package from the checkout."""

import os
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "pipeline"


def run_command(name: str) -> None:
    """Run `corpus-reranker NAME` with this process's arguments."""
    sys.path[0] = str(SOURCE)  # replaces jobs/, whose module names could hide others
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = _join(str(SOURCE), inherited)  # for child processes, including a local Ray
    os.environ["CORPUS_RERANKER_WORKER_PYTHONPATH"] = _join(*_paths_on_workers(), inherited)
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # the job's own PYTHONPATH is part of `inherited`
    sys.argv.insert(1, name)

    from corpus_reranker.__main__ import main

    main()


def _paths_on_workers() -> list[str]:
    """The source root, as an absolute path and relative to the job's working directory, which Ray copies to every node.

    The relative path comes first. It is left out if the source root is outside the working directory.
    """
    relative = os.path.relpath(SOURCE)
    return [str(SOURCE)] if relative.startswith(os.pardir) else [relative, str(SOURCE)]


def _join(*paths: str | None) -> str:
    return os.pathsep.join(path for path in paths if path)
