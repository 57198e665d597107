"""docs/your-data.md: its files are written and its commands run as shown; a scripted engine replaces the model."""

import runpy
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from corpus_reranker.config import loader
from corpus_reranker.errors import ConfigError
from corpus_reranker.retrieval.java import find_java
from helpers.command_line import run_command
from helpers.documentation import Block, commands, sections
from helpers.paths import REPOSITORY
from helpers.runs import check_ranking, rows_of_folder

PAGE = REPOSITORY / "docs" / "your-data.md"
SECTIONS = sections(PAGE)
BEFORE = "Before you start"
BASE = {
    "engine": {"kind": "scripted", "answers": "corpus_reranker.engines.scripted:reverse_order", "max_model_len": 65536},
    "prompt": {"template": "rankgpt"},
    "strategy": {"name": "single_window", "window": 10},
    "cluster": {"replicas": 1, "queries_per_block": 8},
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the data of the page and a `demo/cpu` whose engine is scripted."""
    (tmp_path / "configs" / "demo").mkdir(parents=True)
    (tmp_path / "configs" / "demo" / "cpu.yaml").write_text(yaml.safe_dump(BASE))
    monkeypatch.setattr(loader, "CONFIGS_DIRECTORY", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    assert commands(SECTIONS[BEFORE])[-1] == "corpus-reranker dev demo-data"
    assert run_command("dev", "demo-data").exit_code == 0
    return tmp_path


def run_section(heading: str) -> dict[str, str]:
    """Write the files of a section, run its commands, and return what each command printed."""
    blocks = SECTIONS[heading]
    for file, text in ((block.file, block.text) for block in blocks if block.file):
        Path(file).write_text(text)
    printed = {}
    for line in commands(blocks):
        program, name, *arguments = shlex.split(line)
        if program == "python":
            runpy.run_path(name)
            continue
        result = run_command(name, *arguments, *(["--allow-simulated"] if name == "export" else []))
        assert result.exit_code == 0, (line, result.output)
        printed[name] = result.output
    return printed


def reversed_top(candidates: str, reranked: str) -> None:
    """Assert that every query of the folder `candidates` is in `reranked`, with its candidates reversed."""
    rows = rows_of_folder(Path(reranked))
    sources = pq.read_table(candidates).to_pylist()
    assert rows.keys() == {row["query_id"] for row in sources}
    for source in sources:
        check_ranking(rows[source["query_id"]], source)
        expected = [each["doc_id"] for each in reversed(source["candidates"])]
        assert [entry["doc_id"] for entry in rows[source["query_id"]]["ranking"]] == expected


def test_five_data_sets_of_at_most_four_commands_and_twelve_lines() -> None:
    data_sets = {heading: blocks for heading, blocks in SECTIONS.items() if commands(blocks) and heading != BEFORE}
    assert len(data_sets) == 5
    for blocks in data_sets.values():
        (config,) = [block.text for block in blocks if block.language == "yaml"]
        assert len(config.splitlines()) <= 12
        assert len(commands(blocks)) <= 4


@pytest.mark.parametrize("block", [each for blocks in SECTIONS.values() for each in blocks if each.language == "yaml"])
def test_a_config_of_the_page_is_valid(block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the ready-made configs themselves, also for a GPU."""
    path = tmp_path / "job.yaml"
    for base in ("demo/cpu", "reasonrank-7b"):
        path.write_text(block.text.replace("base: demo/cpu", f"base: {base}"))
        config = loader.load_config(path, () if block.file else ("--input.path=in", "--output.path=out"))
        assert config.engine.kind == "vllm"


@pytest.mark.usefixtures("ray_cluster", "checkout")
def test_beir() -> None:
    pytest.importorskip("pyserini")
    try:
        find_java()
    except ConfigError as error:
        pytest.skip(str(error))
    printed = run_section("A BEIR folder")
    assert "16 queries, 160 candidates" in printed["retrieve"]
    assert "16 judged queries" in printed["rerank"]
    assert "nDCG@10" in printed["rerank"]
    assert "16 queries, 320 records" in printed["export"]
    reversed_top("out/beir/candidates", "out/beir/reranked")


@pytest.mark.usefixtures("ray_cluster", "checkout")
def test_ms_marco() -> None:
    printed = run_section("MS MARCO")
    assert "RR@10" in printed["evaluate"]
    reversed_top("out/msmarco/candidates", "out/msmarco/reranked")


@pytest.mark.usefixtures("ray_cluster", "checkout")
def test_a_data_frame(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    run_section("A data frame")
    assert sorted(capsys.readouterr().out.splitlines()[-2:]) == ["1 complete ['11', '10']", "2 complete ['10', '12']"]


@pytest.mark.usefixtures("ray_cluster", "checkout")
def test_a_hugging_face_dataset() -> None:
    pytest.importorskip("datasets")
    run_section("A Hugging Face dataset")
    rows = rows_of_folder(Path("out/dataset/reranked"))
    assert {key: [entry["doc_id"] for entry in row["ranking"]] for key, row in rows.items()} == {
        "q1": ["d2", "d1"],
        "q2": ["d2", "d1"],
    }


@pytest.mark.usefixtures("ray_cluster", "checkout")
def test_a_trec_run() -> None:
    run_section("A TREC run")
    reversed_top("out/trec/candidates", "out/trec/reranked")
    lines = Path("out/trec/runs/reranked/rankings.trec").read_text().splitlines()
    assert len(lines) == 160
