"""`corpus-reranker dev`: the demo and developer tools."""

from typing import ClassVar

import typer

from corpus_reranker.cli.app import LazyCommand, LazyGroup


class DevGroup(LazyGroup):
    """Commands for developers of this package."""

    lazy_commands: ClassVar[dict[str, LazyCommand]] = {
        "demo": LazyCommand("demo", "Rerank the demo collection with a tiny LLM in vLLM on the CPU."),
        "demo-model": LazyCommand("demo_model", "Put the demo's models into a cache folder."),
        "demo-data": LazyCommand("demo_data", "Write the demo collection as BEIR, MS MARCO and TREC files."),
    }


app = typer.Typer(
    cls=DevGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True
)


@app.callback()
def dev() -> None:
    """Demo and developer tools. The models need the extra `demo`."""
