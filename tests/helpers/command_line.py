"""The program's commands, called in this process."""

from collections.abc import Sequence
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner, Result

from corpus_reranker.cli.app import app
from corpus_reranker.cli.options import JobOptions


def run_command(*arguments: str, columns: int = 120) -> Result:
    """Run `corpus-reranker ARGUMENTS`; the result has `exit_code`, `stdout`, `stderr` and both as `output`."""
    return CliRunner().invoke(app, arguments, prog_name="corpus-reranker", env={"COLUMNS": str(columns)})


def check_refused(result: Result, message: str) -> None:
    """The command failed with exit code 2, and stderr is one error that contains `message`."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert result.stderr.count("error: ") == 1, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.output


def parse_command(name: str, arguments: Sequence[str]) -> JobOptions:
    """Parse `corpus-reranker NAME ARGUMENTS` without running it; raises if NAME or an argument is not known."""
    group: Any = get_command(app)
    context = group.load(name).make_context(name, list(arguments))
    return JobOptions.of(context, context.params.get("config"), context.params.get("date"))
