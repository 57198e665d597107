"""The examples of docs/python.md run as they are shown."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from corpus_reranker import JobConfig, build_reranker
from helpers.paths import REPOSITORY
from helpers.runs import check_ranking, query, rows_of_folder, write_input

PAGE = REPOSITORY / "docs" / "python.md"


def example(heading: str) -> str:
    """The Python block below a heading of the page."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(block)


def test_rerank_one_query_without_ray() -> None:
    code = example("Rerank one query")
    assert len([line for line in code.splitlines() if line]) <= 10
    heavy = {"ray", "vllm", "torch", "pyarrow"}
    code += f"import sys\nprint(sorted({heavy} & set(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["['d2', 'd1']", "[]"]


@pytest.mark.usefixtures("ray_cluster")
def test_rerank_inside_a_ray_data_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    code = example("Rerank inside a Ray Data pipeline")
    engine = '{"kind": "vllm", "model": "liuwenhan/reasonrank-7B"}'
    assert engine in code
    answers = "corpus_reranker.engines.scripted:reverse_order"
    namespace: dict[str, Any] = {}
    exec(compile(code.replace(engine, str({"kind": "scripted", "answers": answers})), str(PAGE), "exec"), namespace)
    assert capsys.readouterr().out.splitlines()[-1] == "['q0', 'q1', 'q2']"
    assert {row["best"] for row in namespace["best"].take_all()} == {"d4"}
    context = namespace["ray"].data.DataContext.get_current()
    assert context.autoscaling_config.actor_pool_util_upscaling_threshold > 1  # other datasets keep Ray Data's own


@pytest.mark.usefixtures("ray_cluster")
def test_a_bad_row_of_a_ray_data_pipeline_fails_alone() -> None:
    """The section `input` of a job config names the columns of a dataset, too."""
    config = JobConfig.model_validate(
        {
            "input": {"path": "in", "columns": {"query_id": "qid", "doc_id": "docno"}},
            "output": {"path": "out"},
            "engine": {"kind": "scripted"},
            "strategy": {"window": 4, "stride": 2},
        }
    )
    good, bad = {**query(0), "tag": "a"}, {**query(1), "query": " ", "tag": "b"}
    items = [{"qid": row.pop("query_id"), **row, "candidates": _renamed(row["candidates"])} for row in (good, bad)]
    rows = {row["query_id"]: row for row in build_reranker(config)(ray.data.from_items(items)).take_all()}
    check_ranking(rows["q0000"], query(0))
    assert [(row["status"], row["tag"]) for _, row in sorted(rows.items())] == [("complete", "a"), ("failed", "b")]


def _renamed(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"docno" if name == "doc_id" else name: value for name, value in each.items()} for each in candidates]


@pytest.mark.usefixtures("ray_cluster")
def test_run_a_job_from_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [query(number) for number in range(3)]
    write_input(tmp_path / "candidates", rows)
    config = {
        "input": {"path": "candidates"},
        "output": {"path": "reranked"},
        "engine": {"kind": "scripted"},
        "strategy": {"window": 4, "stride": 2},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    code = example("Run a job from a scheduler")
    for last_line in ("{'complete': 3}", "{'complete': 3}"):  # the second call finds a finished output
        exec(compile(code, str(PAGE), "exec"), {})
        assert capsys.readouterr().out.splitlines()[-1] == last_line
    assert not (REPOSITORY / "reranked").exists()  # replicas, which started here, write to the same folder
    written = rows_of_folder(tmp_path / "reranked" / "dt=2026-11-28")
    for row in rows:
        check_ranking(written[row["query_id"]], row)
