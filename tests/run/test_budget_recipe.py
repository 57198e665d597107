"""The commands of docs/strategies.md for a budget: sample, estimate, run. A scripted engine replaces the model."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from corpus_reranker.config import loader
from helpers.command_line import run_command
from helpers.documentation import commands, sections
from helpers.paths import REPOSITORY
from helpers.runs import query, rows_of_folder, write_input

pytestmark = pytest.mark.slow

BLOCKS = sections(REPOSITORY / "docs" / "strategies.md")["One budget for all queries"]
WINDOWS = 92
"""One for each of the 2 queries whose candidates fit in one window, and 9 for each of the 10 others."""

RECIPE = [line.replace("600000", str(WINDOWS)) for line in commands(BLOCKS) if not line.startswith("#")]
BASE = {
    "engine": {"kind": "scripted", "answers": "corpus_reranker.engines.scripted:reverse_order", "max_model_len": 65536},
    "prompt": {"template": "rankgpt"},
    "policy": {"backoff_seconds": 0.01},
    "cluster": {"replicas": 1, "queries_per_block": 8},
}


@pytest.mark.usefixtures("ray_cluster")
def test_the_run_ends_where_the_curve_of_the_sample_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "reasonrank-7b.yaml").write_text(yaml.safe_dump(BASE))
    monkeypatch.setattr(loader, "CONFIGS_DIRECTORY", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    (job,) = [block.text for block in BLOCKS if block.file == "job.yaml"]
    Path("job.yaml").write_text(job)
    write_input(Path("candidates"), [query(number, 15 + 5 * number) for number in range(12)])

    sample, estimate, run = (shlex.split(line)[1:] for line in RECIPE)
    for command in (sample, [*estimate, "--estimate.json_path=estimate.json"], run):
        result = run_command(*command)
        assert result.exit_code == 0, (command, result.output)
        if command[0] == "estimate":
            assert "budget curve, from 12 queries of out/sample, with allocation uniform:" in result.output

    rows = rows_of_folder(Path("out/reranked")).values()
    stabilities = [row["stability"] for row in rows if row["stability"] is not None]
    (budget,) = [row for row in json.loads(Path("estimate.json").read_text())["curve"]["rows"] if row["is_budget"]]
    assert budget["windows"] == sum(len(row["windows"]) for row in rows) == WINDOWS
    assert budget["stability"] == pytest.approx(sum(stabilities) / len(stabilities))
    assert "<h3>Gain by window</h3>" in Path("out/reranked/_run/report.html").read_text()
    manifest = json.loads(Path("out/reranked/_manifest.json").read_text())
    requested = [each["completions"] for each in manifest["info"]["passes"]]
    assert sum(requested) == 0, "every window of the run is one of the sample, in the shared cache"
