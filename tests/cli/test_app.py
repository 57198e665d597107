"""The Typer app: lazy commands, overrides in every command, `--json`, and errors on stderr."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corpus_reranker import cli
from corpus_reranker.cli.app import COMMANDS
from corpus_reranker.cli.errors import report_error
from corpus_reranker.cli.options import split_overrides
from corpus_reranker.config.keys import key_names
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError, EngineDeadError, InputError, RunError
from helpers.command_line import check_refused, parse_command, run_command
from helpers.paths import REPOSITORY
from helpers.synthetic_output import output_row, write_data_files

USER_COMMANDS = [name for name, command in COMMANDS.items() if not command.hidden]


def test_help_lists_the_commands_in_the_order_of_the_pipeline() -> None:
    result = run_command("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^  (\w+)  ", result.stdout.partition("Commands:")[2], re.MULTILINE)
    assert listed == USER_COMMANDS
    assert listed == [
        "retrieve",
        "assemble",
        "estimate",
        "rerank",
        "status",
        "watch",
        "evaluate",
        "compare",
        "calibrate",
        "export",
        "publish",
        "report",
        "benchmark",
    ]
    assert run_command().stdout == result.stdout


def test_developer_tools_have_their_own_group() -> None:
    listed = re.findall(r"^  ([\w-]+)  ", run_command("dev", "--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert listed == ["demo", "demo-model", "demo-data"]


def test_help_imports_neither_a_command_nor_a_large_library() -> None:
    code = (
        "import sys; from corpus_reranker.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in modules
    loaded = {name.removeprefix("corpus_reranker.cli.") for name in modules if name.startswith("corpus_reranker.cli.")}
    assert loaded == {"app", "errors", "exit_codes"}
    assert {"ray", "pyarrow", "vllm", "torch", "transformers", "numpy", "pydantic", "rich"}.isdisjoint(modules)


@pytest.mark.parametrize("name", USER_COMMANDS)
def test_every_command_takes_the_job_config_in_the_same_way(name: str) -> None:
    arguments = ["--config", "c.yaml", "--date", "2026-11-25", "--input.path", "in", "--storage.region=eu-west-1"]
    options = parse_command(name, arguments)
    assert (options.path, options.date) == ("c.yaml", "2026-11-25")
    assert options.overrides == ("--input.path=in", "--storage.region=eu-west-1")
    check_refused(run_command(name, "--confg", "c.yaml"), "unknown option --confg; did you mean --config?")
    check_refused(run_command(name, "--input.path"), "--input.path needs a value: --input.path=VALUE")


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "jobs").glob("[a-z]*.py")))
def test_scripts_of_jobs_run_the_commands_of_their_names(name: str) -> None:
    assert name in USER_COMMANDS
    assert f'run_command("{name}")' in (REPOSITORY / "jobs" / f"{name}.py").read_text()


def test_every_command_has_a_script_in_jobs() -> None:
    assert {path.stem for path in (REPOSITORY / "jobs").glob("[a-z]*.py")} == set(USER_COMMANDS)


def test_every_module_of_a_command_exists_and_no_help_is_cut() -> None:
    folder = Path(next(iter(cli.__path__)))
    assert all((folder / f"{command.module}.py").is_file() for command in COMMANDS.values())
    assert "..." not in run_command("--help").stdout.partition("Commands:")[2]


def test_a_script_of_jobs_runs_the_package_beside_it(tmp_path: Path) -> None:
    for name in ("jobs", "pipeline"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pipeline/corpus_reranker/cli/status.py").write_text("raise SystemExit('the copied package')\n")
    script = [sys.executable, str(tmp_path / "jobs/status.py"), "out"]
    done = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "the copied package\n")


@pytest.mark.parametrize(
    ("arguments", "own", "overrides"),
    [
        (["--input.path=a", "out"], ["out"], ["--input.path=a"]),
        (["--input.path", "a", "out"], ["out"], ["--input.path=a"]),
        (["--generation.temperature", "-1"], [], ["--generation.temperature=-1"]),
        (["--max-failed-fraction", "0.5"], [], ["--max-failed-fraction=0.5"]),
        (["--cluster={replicas: 2}"], [], ["--cluster={replicas: 2}"]),
        (["--prompt.template="], [], ["--prompt.template="]),
        (["--estimate", "--limit", "3"], ["--estimate", "--limit", "3"], []),
        (["--wrong=1", "-x"], ["--wrong=1", "-x"], []),
        (["--", "--input.path=a"], ["--", "--input.path=a"], []),
    ],
)
def test_overrides_are_separated_from_own_arguments(arguments: list[str], own: list[str], overrides: list[str]) -> None:
    assert split_overrides(arguments, {"--estimate", "--limit"}) == (own, overrides)


def test_an_option_takes_precedence_over_a_section_of_the_same_name() -> None:
    assert parse_command("rerank", ["--estimate", "--estimate.replicas", "2"]).overrides == ("--estimate.replicas=2",)


def test_json_is_the_only_output_on_stdout(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [1, 0])]])
    (tmp_path / "qrels").write_text("1 0 d1 1\n")
    export = ["export", str(output), "--to=trec", f"--destination={tmp_path}/run"]
    evaluate = ["evaluate", str(output), f"--qrels={tmp_path}/qrels"]
    for arguments in (["status", str(output)], ["report", str(output)], evaluate, export):
        result = run_command(*arguments, "--json")
        assert isinstance(json.loads(result.stdout), dict), arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerun"], "no such command 'rerun'. Did you mean 'rerank'?"),
        (["nonsense"], "no such command 'nonsense'; see corpus-reranker --help"),
        (["--nonsense"], "unknown option --nonsense; known options: "),
        (["status", "a", "b"], "(b); see corpus-reranker status --help"),
        (["rerank", "--limit", "0"], "--limit"),
        (["rerank", "--limit", "many"], "--limit"),
        (["rerank", "--limit"], "--limit"),
        (["dev", "nonsense"], "no such command 'nonsense'; see corpus-reranker dev --help"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = run_command(*arguments)
    check_refused(result, message)
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerank", "--limt", "3"], "unknown option --limt; did you mean --limit?"),
        (["status", "--modle=x"], "unknown option --modle; did you mean --engine.model?"),
        (["rerank", "--max-model-len=9"], "did you mean --engine.max_model_len or --pre_ranker.engine.max_model_len?"),
        (["export", "--currencie", "x"], "did you mean --report.currency?"),
        (["rerank", "--output", "out"], "output: a section, not a value; set its keys: --output.path=VALUE, --output."),
        (["rerank", "--input.pth", "in"], "input.pth: unknown key; did you mean 'path'?"),
        (["status", "--xyzzy"], "known options: --config, "),
    ],
)
def test_a_wrong_option_gets_the_nearest_option_or_config_key(arguments: list[str], message: str) -> None:
    check_refused(run_command(*arguments), message)


def test_help_config_lists_every_key_with_its_default() -> None:
    result = run_command("rerank", "--help-config")
    assert result.exit_code == 0
    assert run_command("--help-config").stdout == result.stdout
    listed = set(re.findall(r"^  --(\S+)=VALUE  ", result.stdout, re.MULTILINE))
    assert listed == set(key_names())
    sections = set(JobConfig.model_fields) - {"max_failed_fraction", "max_unanswered_fraction", "max_cost"}
    assert {name.partition(".")[0] for name in listed if "." in name} == sections
    assert "--export.training.negatives=VALUE  int, default: 7" in result.stdout
    assert "--input.path=VALUE  str, required" in result.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("the reason"), 2),
        (InputError("the reason"), 2),
        (RunError("the reason"), 1),
        (EngineDeadError("the reason"), 1),
    ],
)
def test_an_expected_error_is_its_message(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(error) == code
    assert capsys.readouterr() == ("", "error: the reason\n")


def test_an_unexpected_error_is_a_line_that_names_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyError) as caught:
        raise KeyError("first line\nsecond line")
    assert report_error(caught.value) == 1
    line = capsys.readouterr().err
    (file,) = tmp_path.iterdir()
    assert line == f"error: KeyError: 'first line\\nsecond line' (unexpected; traceback in {file})\n"
    assert "Traceback (most recent call last)" in file.read_text()
