"""Runs a command by name: `corpus-reranker NAME` or `python -m corpus_reranker NAME`."""

import ast
import pkgutil
import runpy
import sys
from pathlib import Path

from corpus_reranker import __version__, cli


def job_summaries() -> dict[str, str]:
    """First line of each job's docstring, by the job's name. Imports none of them, for that takes seconds."""
    folder = Path(cli.__file__ or "").parent
    names = [module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_")]
    sources = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in names}
    return {name: (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0] for name, source in sources.items()}


def main() -> None:
    """Run the job that the first argument names, with the rest; list the jobs where there is none."""
    summaries = job_summaries()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        print(__version__)
    elif name in summaries:
        del sys.argv[1]
        runpy.run_module(f"corpus_reranker.cli.{name}", run_name="__main__", alter_sys=True)
    elif name == "--help":
        print("corpus-reranker JOB [--help] ...\n")
        print(*(f"  {job:<12}{summary}" for job, summary in summaries.items()), sep="\n")
    else:
        sys.exit(f"no job {name!r}; there are: {', '.join(summaries)}")


if __name__ == "__main__":
    main()
