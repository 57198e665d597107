"""The Typer app. A command's module is imported when the command runs: Ray and pyarrow take seconds to import."""

import sys
from importlib import import_module
from typing import Annotated, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from corpus_reranker import __version__
from corpus_reranker.cli.errors import report_error


class LazyCommand(NamedTuple):
    """A command that is not imported yet."""

    module: str
    help: str
    hidden: bool = False


COMMANDS = {
    "retrieve": LazyCommand("retrieve", "Find candidates for queries with BM25 over a Lucene index."),
    "assemble": LazyCommand("assemble", "Make candidates from a first-stage run, queries and a corpus."),
    "estimate": LazyCommand("estimate", "Predict windows, tokens, time and price of a run."),
    "rerank": LazyCommand("rerank", "Rerank candidates, Parquet to Parquet, or resume a run."),
    "status": LazyCommand("status", "Show the progress of a run, from its output folder."),
    "watch": LazyCommand("watch", "Watch a run live in a terminal."),
    "evaluate": LazyCommand("evaluate", "Score rankings with qrels, before and after reranking."),
    "compare": LazyCommand("compare", "Compare the rankings of two outputs."),
    "calibrate": LazyCommand("calibrate", "Fit the probability that a document is relevant, with qrels."),
    "export": LazyCommand("export", "Convert an output to TREC runs, feeds or training data."),
    "publish": LazyCommand("publish", "Replace the rows of a table in one commit."),
    "report": LazyCommand("report", "Write an HTML report of a run."),
    "benchmark": LazyCommand("benchmark", "Assemble, rerank and evaluate a whole benchmark."),
    "dev": LazyCommand("dev", "Demo and developer tools.", hidden=True),
}
"""In the order of the pipeline. The help texts are here so that `--help` imports no command."""

EPILOG = (
    "Every command takes config values as --section.key=value. --json prints one JSON document instead of text; config "
    "keys such as --evaluate.json_path=FILE write files. Exit codes: 0 done; 1 the run failed, and the same command "
    "resumes it; 2 fix the command line, config, input or output; 3 done, but more queries failed than "
    "max_failed_fraction, or more windows have no answer than max_unanswered_fraction; 4 not finished (status, watch); "
    "5 no node has enough free resources for a replica, and the same command resumes the run; 6 two outputs agree less "
    "than compare.min_tau or compare.min_overlap (compare); 7 the run has cost max_cost, and a higher limit resumes "
    "it; 130 and 143 stopped by Ctrl-C or SIGTERM. Demo and developer tools: corpus-reranker dev --help."
)


class LazyGroup(TyperGroup):
    """A group that lists its commands by name and help, and imports the one that is called.

    The base class finds, lists and suggests the placeholders in `self.commands`; `resolve_command` replaces the
    called placeholder with the real command.
    """

    lazy_commands: ClassVar[dict[str, LazyCommand]] = COMMANDS

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in self.lazy_commands.items():
            self.add_command(TyperCommand(name, help=command.help, hidden=command.hidden))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, placeholder and self.load(str(name)), rest

    def load(self, name: str) -> Any:
        """Import the command `name`."""
        module = import_module(f"corpus_reranker.cli.{self.lazy_commands[name].module}")
        return get_command(module.app)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command. The exit code is what the command returns; an error becomes one line on stderr."""
        standalone = options.pop("standalone_mode", True)
        options["standalone_mode"] = False
        if not standalone:
            return super().main(*args, **options)
        try:
            code = super().main(*args, **options)
        except Exception as error:  # every error becomes one line here
            code = report_error(error)
        sys.exit(code or 0)


app = typer.Typer(
    cls=LazyGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=EPILOG
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    help_config: Annotated[bool, typer.Option("--help-config", help="List every config key.")] = False,
) -> None:
    """Offline listwise reranking of a corpus of queries with an LLM, on Ray Data and vLLM."""
    if version:
        print(__version__)
    elif help_config:
        print(import_module("corpus_reranker.cli.config_help").config_help())
    elif context.invoked_subcommand is None:
        print(context.get_help())
