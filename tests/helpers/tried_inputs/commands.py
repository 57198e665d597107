"""Commands on inputs."""

from helpers.tried_inputs.base import NESTED_ROW, A, TriedInput, nested, other, parquet, text

RERANK = ("rerank", "--dry-run", "--engine.kind=scripted", "--input.path=FOLDER", "--output.path=FOLDER/../out")

JOB = "engine: {kind: scripted}\ninput: {path: a}\noutput: {path: b}\n"


def _config(name: str, content: str, before: str, now: str, *options: str) -> TriedInput:
    """A dry run with a job config; `now` is the end of the error."""
    return TriedInput(
        name,
        {"job.yaml": text(content)},
        before,
        f"exit code 2: error: … {now}",
        kind="command",
        arguments=("rerank", "--dry-run", "--config=FOLDER/job.yaml", *options),
    )


COMMANDS = (
    TriedInput(
        "`status` of a folder of candidates",
        {A: parquet(nested())},
        "exit code 1: KeyError: 'Field \"status\" does not exist in schema'",
        "exit code 4: FOLDER: no run has started here",
        kind="command",
        arguments=("status", "FOLDER"),
    ),
    TriedInput(
        "`--dry-run`, a query_id twice",
        {A: parquet(nested(), NESTED_ROW, NESTED_ROW)},
        "exit code 0",
        "exit code 2: … '7' in row 0 of a.parquet and row 1 of a.parquet …",
        kind="command",
        arguments=RERANK,
    ),
    TriedInput(
        "`--dry-run`, the first row is bad",
        {A: parquet(nested(), other("6", candidates=[]), NESTED_ROW)},
        "exit code 2: error: candidates is empty",
        "exit code 0",
        kind="command",
        arguments=RERANK,
    ),
    TriedInput(
        "`--dry-run`, the output path is a file",
        {A: parquet(nested()), "../out": text("")},
        "exit code 0",
        "exit code 2: … a file is in the way; choose another folder",
        kind="command",
        arguments=RERANK,
    ),
    TriedInput(
        "a key twice in the YAML file",
        {"job.yaml": text("engine: {kind: scripted}\ninput: {path: a}\noutput: {path: b}\ninput: {path: c}\n")},
        "exit code 2: error: input.path: there is no file or folder c",
        "exit code 2: error: config job.yaml is not valid YAML: key 'input' appears twice (line 4, column 1)",
        kind="command",
        arguments=("rerank", "--dry-run", "--config=FOLDER/job.yaml"),
    ),
    _config(
        "a section without keys",
        f"{JOB}strategy:\n",
        "exit code 1: AttributeError: 'NoneType' object has no attribute 'max_window'",
        "strategy: a section, not a value; set its keys: --strategy.window=VALUE, …",
    ),
    _config(
        "a tab in the YAML file",
        "engine:\n\tkind: scripted\n",
        "exit code 2, four lines: while scanning … found character '\\t' that cannot start any token …",
        "is not valid YAML: a tab in the indentation; indent with spaces (line 2, column 1)",
    ),
    _config(
        "an anchor inside its own value",
        "engine: &engine {kind: scripted, more: *engine}\n",
        "exit code 1: RecursionError: maximum recursion depth exceeded",
        "is not valid YAML: a value contains itself by its anchor (line 1, column 9)",
    ),
    _config(
        "a variable of the shell in the YAML file",
        JOB.replace("path: b", "path: $HOME/b"),
        "exit code 0",
        'output.path is $HOME/b, and variables are not expanded in a config; … "--output.path=$HOME/b"',
    ),
    _config(
        "`{date+1}`, with `--date`",
        JOB.replace("path: b", "path: 'b/{date+1}'"),
        "exit code 2: error: --date 2026-11-25 has no place in this config; say where it goes, …",
        "output.path: no known placeholder; write {date}, or {date-N} for N days before",
        "--date=2026-11-25",
    ),
    TriedInput(
        "`--input.path VALUE` without `=`",
        {A: parquet(nested())},
        "exit code 2: error: cannot read '--input.path'; overrides look like --engine.model=PATH",
        "exit code 0",
        kind="command",
        arguments=(*RERANK[:3], "--input.path", "FOLDER", *RERANK[4:]),
    ),
    TriedInput(
        "an option with a typing error",
        {A: parquet(nested())},
        "exit code 2: strategy: unknown key 'windw'; did you mean 'window'?",
        "exit code 2: error: config (command line): strategy.windw: unknown key; did you mean 'window'?",
        kind="command",
        arguments=(*RERANK, "--strategy.windw=10"),
    ),
)
