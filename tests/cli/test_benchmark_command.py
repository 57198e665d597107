"""The command `benchmark`: a folder of two splits, interrupted, resumed, and compared with the commands one by one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.cli.benchmark import settings_and_qrels_of_split
from corpus_reranker.cli.options import JobOptions
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import InputError, RunError
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.run import driver
from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import output_row, write_data_files

JOB = [
    "--engine.kind=scripted",
    "--engine.answers=corpus_reranker.engines.scripted:reverse_order",
    "--strategy={window: 4, stride: 2, depth: 100}",
    "--cluster={replicas: 1, queries_per_block: 4}",
    "--report.price_per_gpu_hour=2",
]


def write_split(folder: Path, judged: Mapping[str, str]) -> None:
    """Write a split in BEIR's layout: three queries with six candidates each; `judged` is the relevant one by query."""
    documents = [{"_id": f"d{number}", "title": "", "text": f"passage {number}"} for number in range(6)]
    queries = [{"_id": f"q{number}", "text": f"what is {number}"} for number in range(3)]
    run = [f"q{query} Q0 d{rank} {rank + 1} {9 - rank} tag" for query in range(3) for rank in range(6)]
    qrels = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in judged.items())]
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in documents))
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in queries))
    (folder / "run.txt").write_text("".join(f"{line}\n" for line in run))
    (folder / "qrels/test.tsv").write_text("".join(f"{line}\n" for line in qrels))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_split(tmp_path / "data/one", {"q0": "d5", "q1": "d0", "q2": "d3"})
    write_split(tmp_path / "data/two", {"q0": "d4", "q1": "d5"})
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_benchmark_is_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each split is reranked once, with the figures of `evaluate`; a finished benchmark is not run again."""
    command = ["benchmark", str(data), *JOB, f"--output={tmp_path}/out"]
    run_job, reranked = driver.run_job, []

    def interrupted(config: JobConfig, **options: Any) -> Mapping[str, Any]:
        if "/two/" in config.output.path:
            raise RunError("the node was lost")
        return run_job(config, **options)

    def counted(config: JobConfig, *, log: Callable[[str], None], **options: Any) -> Mapping[str, Any]:
        lines: list[str] = []
        manifest = run_job(config, **options, log=lines.append)
        if not any("nothing to do" in line for line in lines):
            reranked.append(Path(config.output.path).parent.name)
        return manifest

    monkeypatch.setattr(driver, "run_job", interrupted)
    stopped = run_command(*command)
    assert (stopped.exit_code, "error: the node was lost" in stopped.stderr) == (1, True)
    assert not (tmp_path / "out/benchmark.md").exists()

    monkeypatch.setattr(driver, "run_job", counted)
    result = run_command(*command, "--json")
    assert result.exit_code == 0, result.output
    assert reranked == ["two"]
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "out/benchmark.json").read_text())
    page = (tmp_path / "out/benchmark.md").read_text()
    for split in document["splits"]:
        folder = tmp_path / "out" / split["split"]
        qrels = data / split["split"] / "qrels/test.tsv"
        alone = json.loads(run_command("evaluate", f"{folder}/reranked", f"--qrels={qrels}", "--json").stdout)
        assert alone == json.loads((folder / "evaluation.json").read_text())
        own = [each for each in alone["means"] if each["measure"] == "nDCG@10"]
        assert [split["means"][stage] for stage in ("before", "after")] == own
        manifest = json.loads((folder / "reranked/_manifest.json").read_text())
        assert (split["cost"]["calls"], split["cost"]["price"]) == (sum(manifest["windows_by_status"].values()), 0)
        assert split["cost"]["prompt_tokens"] == manifest["prompt_tokens"]
        assert f"| {split['split']} | {own[0]['queries']} | run.txt | {own[0]['mean']:.4f} [" in page

    again = run_command(*command)
    assert (again.exit_code, reranked) == (0, ["two"])
    assert page in again.stdout

    check_refused(run_command(*command, "--limit=1"), "holds a run with other settings")


def test_a_limit_counts_only_the_judgments_of_reranked_queries(tmp_path: Path) -> None:
    """The others would count as 0, as judged queries that an output lacks do."""
    output = write_data_files(tmp_path / "split/reranked", [[output_row("q 1", [1, 0]), output_row("unjudged", [0])]])
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq 1\td1\t2\nq 1\td 9\t1\nq2\td0\t1\n")
    options = JobOptions(
        None, (f"--output.path={output}", f"--evaluate.qrels={qrels}", "--evaluate.measures=[RR]"), None
    )
    settings, judgments = settings_and_qrels_of_split(options, limit=None)
    assert (settings.measures, set(judgments)) == (("nDCG@10", "RR"), {"q 1", "q2"})
    _, judgments = settings_and_qrels_of_split(options, limit=2)
    assert judgments == {"q 1": {"d1": 2, "d 9": 1}}
    assert load_qrels(LocalFileSystem(), f"{tmp_path}/split/qrels.tsv") == judgments
    qrels.write_text("q3 0 d0 1\n")
    with pytest.raises(InputError, match="judges none of the first 2 queries; raise --limit"):
        settings_and_qrels_of_split(options, limit=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a benchmark"),
        (["brigth"], "no benchmark brigth: name one of beir, bright, r2med, trec-dl, a YAML file, or a folder"),
        (["bright"], "give --folder; to fill it: hf download xlangai/BRIGHT --repo-type dataset --local-dir FOLDER;"),
        (["bright", "--folder=x", "--split=physics"], "no split 'physics' in BRIGHT; it has biology, "),
        (["bright", "--folder=x", "--run=run.txt"], "--run run.txt is one run for 12 splits; write {split}"),
        (["trec-dl", "--folder=/no/such", "--split=2020"], "split 2020: dataset /no/such has no collection.tsv"),
        (
            ["DATA", "--run=/no/{split}.txt"],
            "split one: no such file or folder: /no/one.txt; to fill the folder: corpus.",
        ),
        (["DATA", "--engine.modle=x"], "engine.modle: unknown key; did you mean 'model'?"),
    ],
)
def test_wrong_arguments_of_benchmark_are_refused(
    arguments: list[str], message: str, data: Path, tmp_path: Path
) -> None:
    """A wrong command starts nothing, and names what the folder must hold."""
    arguments = [str(data) if each == "DATA" else each for each in arguments]
    check_refused(run_command("benchmark", *arguments, *JOB, f"--output={tmp_path}/out"), message)
    assert not list(tmp_path.glob("out/*/reranked"))
