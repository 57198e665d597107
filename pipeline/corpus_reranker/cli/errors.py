"""Reports an error as one line on stderr, reason first, and an exit code."""

import difflib
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from typer.exceptions import TyperException

from corpus_reranker.cli.exit_codes import MAX_COST_REACHED, NO_FREE_NODE, RUN_FAILED, WRONG_SETTINGS
from corpus_reranker.errors import EngineDeadError, MaxCostError, NoFreeNodeError, RerankerError, RunError
from corpus_reranker.io.storage_errors import brief


def report_error(error: Exception) -> int:
    """Print `error: REASON` to stderr and return the exit code."""
    if isinstance(error, TyperException):
        message, code = _usage(error), error.exit_code
    elif isinstance(error, RerankerError):
        message, code = str(error), _exit_code(error)
        if code == RUN_FAILED and error.__cause__ is not None:
            reason, line_break, advice = message.partition("\n")
            message = f"{reason} (traceback in {_write_traceback(error)}){line_break}{advice}"
    elif isinstance(error, OSError) and _is_storage_error(error):
        message, code = brief(error), WRONG_SETTINGS
    else:
        message, code = f"{_first_line(error)} (unexpected; traceback in {_write_traceback(error)})", RUN_FAILED
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def _exit_code(error: RerankerError) -> int:
    if isinstance(error, NoFreeNodeError):
        return NO_FREE_NODE
    if isinstance(error, MaxCostError):
        return MAX_COST_REACHED
    return RUN_FAILED if isinstance(error, RunError | EngineDeadError) else WRONG_SETTINGS


def _usage(error: TyperException) -> str:
    """The message of a wrong command line, with the nearest option for an unknown one."""
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    unknown, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if context is None:
        return message
    if unknown and hasattr(error, "possibilities"):  # only an unknown option has them
        known = _options(context.command)
        nearest = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known options: {', '.join(known)}"
        return f"unknown option {unknown}; {hint}"
    return message if message.endswith("?") else f"{message}; see {context.command_path} --help"


def _is_storage_error(error: OSError) -> bool:
    """Whether a file system or S3 gave the reason: an errno, or a text of pyarrow's AWS SDK."""
    return error.errno is not None or "AWS Error" in str(error)


def _options(command: Any) -> list[str]:
    return sorted({option for parameter in command.params for option in parameter.opts if option.startswith("--")})


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _write_traceback(error: Exception) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="corpus-reranker-", suffix=".txt", delete=False
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    return Path(file.name)
