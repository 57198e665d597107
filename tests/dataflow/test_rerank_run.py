"""The rerank job on local Ray with a scripted engine, from input files to output files."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import ray

from corpus_reranker import __version__
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import max_windows_in_flight
from corpus_reranker.errors import ConfigError, InputError, OutputError
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.run_progress import read_progress
from corpus_reranker.io.schemas import LONG_INPUT, NESTED_INPUT
from corpus_reranker.io.sinks.run_record import read_run
from corpus_reranker.io.status import read_status
from corpus_reranker.paths import PROMPTS_DIRECTORY
from helpers.runs import check_ranking, config, query, rerank, rows_of, write_input

pytestmark = pytest.mark.usefixtures("ray_cluster")


@dataclass(frozen=True)
class MixedRun:
    """A finished run over good queries, bad rows and failing requests; many tests read its output."""

    folder: Path
    settings: JobConfig
    sources: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    lines: list[str]
    rows: dict[str, dict[str, Any]]

    @property
    def output(self) -> Path:
        return self.folder / "out"


GOOD_QUERIES = 30
ALL_REQUESTS_FAIL, ONE_REQUEST_FAILS = "q0014", "q0023"
"""Queries of six candidates, and so two windows."""
WITH_GAPS = "q0035"
"""A query with a candidate without text, and a duplicate."""


@pytest.fixture(scope="module")
def mixed_run(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> MixedRun:
    folder = tmp_path_factory.mktemp("mixed")
    good = [query(number, 1 + number % 9) for number in range(GOOD_QUERIES)]
    candidates = query(30)["candidates"]
    with_gaps = query(35, 3)["candidates"]
    with_gaps[1]["text"] = " "
    bad = [
        query(30, candidates=[*candidates, {**candidates[0], "doc_id": None}]),
        query(31, candidates=[]),
        query(32, query=""),
        query(33, candidates=[{"doc_id": "x", "text": "", "title": None, "score": 1.0}]),
        query(34, 60),
        query(35, candidates=[*with_gaps, with_gaps[0]]),
    ]
    rows = [row | {"day": None, "tags": ["a"] if number % 2 else []} for number, row in enumerate([*good, *bad])]
    schema = NESTED_INPUT.append(pa.field("day", pa.date32())).append(pa.field("tags", pa.list_(pa.string())))
    write_input(folder / "in", rows, schema, files=3)
    (folder / "qrels.txt").write_text("q0005 0 d5-4 1\n")
    settings = config(
        folder,
        "--input.max_candidates=50",
        f"--engine.fail={{{ALL_REQUESTS_FAIL}: 1000, {ONE_REQUEST_FAILS}: 1}}",
        f"--cluster.event_log={folder}/log",
        f"--evaluate.qrels={folder}/qrels.txt",
        "--report.gpus=0",
    )
    manifest, lines = rerank(settings)
    sources = {row["query_id"]: row for row in rows}
    return MixedRun(folder, settings, sources, manifest, lines, rows_of(settings))


def test_every_query_and_candidate_appears_once_with_its_columns(mixed_run: MixedRun) -> None:
    out, manifest = mixed_run.rows, mixed_run.manifest
    assert out.keys() == mixed_run.sources.keys()
    for source in list(mixed_run.sources.values())[:GOOD_QUERIES]:
        row = out[source["query_id"]]
        check_ranking(row, source)
        assert (row["tags"], row["query"]) == (source["tags"], source["query"])
        assert row["started_at"] <= row["finished_at"]
        if row["query_id"] != ALL_REQUESTS_FAIL:
            assert (row["status"], row["error"]) == ("complete", None)
    # windows of 4 with stride 2 over 6 candidates, each reversed: [2, 6), then [0, 4)
    assert [entry["doc_id"] for entry in out["q0005"]["ranking"]] == ["d5-4", "d5-5", "d5-1", "d5-0", "d5-3", "d5-2"]
    windows = [window for row in out.values() for window in row["windows"]]
    assert manifest["windows_by_status"] == Counter(window["status"] for window in windows)
    assert manifest["queries_by_status"] == {"complete": 30, "failed": 6}
    assert manifest["output_tokens"] == sum(window["output_tokens"] for window in windows)
    assert any(line.startswith("36/36 queries | ") for line in mixed_run.lines)


def test_output_files_have_the_declared_schema_and_metadata(mixed_run: MixedRun) -> None:
    schemas = [pq.read_schema(path) for path in mixed_run.output.glob("part-*.parquet")]
    assert schemas
    for schema in schemas:
        assert schema.field("ranking").type.value_type.field("rank").type == pa.int32()
        assert schema.field("windows").type.value_type.field("reasoning").type == pa.string()
        assert schema.metadata[b"reranker.fingerprint"].decode() == mixed_run.settings.fingerprint()
        assert schema.metadata[b"reranker.simulated"] == b"true"
    assert (mixed_run.output / "_SUCCESS").exists()
    assert json.loads((mixed_run.output / "_run/run.json").read_text())["info"]["version"] == __version__
    assert ds.dataset(mixed_run.output).count_rows() == 36


def test_a_bad_row_fails_without_its_block(mixed_run: MixedRun) -> None:
    out = mixed_run.rows
    for number in range(GOOD_QUERIES, 35):
        assert (out[f"q{number:04}"]["status"], out[f"q{number:04}"]["windows"]) == ("failed", [])
        assert out[f"q{number:04}"]["error"]
        doc_ids = [each["doc_id"] for each in mixed_run.sources[f"q{number:04}"]["candidates"]]
        assert [entry["doc_id"] for entry in out[f"q{number:04}"]["ranking"]] == [each for each in doc_ids if each]
    assert "doc_id is null" in out["q0030"]["error"]
    assert "60 candidates" in out["q0034"]["error"]


def test_duplicates_are_dropped_and_candidates_without_text_are_last(mixed_run: MixedRun) -> None:
    row = mixed_run.rows[WITH_GAPS]
    assert (row["status"], row["blank_candidates"], row["duplicate_candidates"]) == ("complete", 1, 1)
    assert [entry["doc_id"] for entry in row["ranking"]] == ["d35-2", "d35-0", "d35-1"]
    assert [entry["initial_rank"] for entry in row["ranking"]] == [3, 1, 2]
    assert (mixed_run.manifest["blank_candidates"], mixed_run.manifest["duplicate_candidates"]) == (1, 1)


def test_a_query_whose_requests_all_fail_keeps_its_order(mixed_run: MixedRun) -> None:
    failed = mixed_run.rows[ALL_REQUESTS_FAIL]
    assert failed["status"] == "failed"
    assert [entry["initial_rank"] for entry in failed["ranking"]] == [1, 2, 3, 4, 5, 6]
    assert [(w["status"], w["attempts"]) for w in failed["windows"]] == [("error", 2), ("error", 2)]
    assert "scripted failure" in failed["error"]


def test_a_failed_window_is_retried(mixed_run: MixedRun) -> None:
    assert sorted(window["attempts"] for window in mixed_run.rows[ONE_REQUEST_FAILS]["windows"]) == [1, 2]


def test_the_report_is_written_beside_the_data_files(mixed_run: MixedRun) -> None:
    page = mixed_run.output / "_run" / "report.html"
    assert f"report: {page}" in mixed_run.lines
    assert "nDCG@10 after" in page.read_text()
    assert re.search(r"passage 0 of q00\d\d", page.read_text())  # a sampled window's prompt


def test_the_event_log_has_every_window_and_query(mixed_run: MixedRun) -> None:
    logs = (mixed_run.folder / "log").glob("events-*.jsonl")
    events = [json.loads(line) for file in logs for line in file.read_text().splitlines()]
    run_id = json.loads((mixed_run.output / "_run/run.json").read_text())["run_id"]
    assert {event["run_id"] for event in events} == {run_id}
    written = [
        (query_id, number, window["status"])
        for query_id, row in mixed_run.rows.items()
        for number, window in enumerate(row["windows"])
    ]
    counts = Counter(event["event"] for event in events)
    once = dict.fromkeys(("run_started", "replica_started", "run_finished"), 1)
    assert counts == {**once, "window": len(written), "query": 36}
    logged = [(event["query_id"], event["window"], event["status"]) for event in events if event["event"] == "window"]
    assert sorted(logged) == sorted(written)
    failed = {event["query_id"]: event["error"] for event in events if event.get("error") and event["event"] == "query"}
    assert failed == {query_id: row["error"] for query_id, row in mixed_run.rows.items() if row["error"]}


def test_a_run_publishes_its_progress_in_the_output(mixed_run: MixedRun) -> None:
    control = open_object_store(mixed_run.settings.output.path, mixed_run.settings.storage)
    run = read_run(control)
    assert run
    stored = read_progress(control, run)
    assert stored
    progress, _ = stored
    assert (progress.queries, progress.done, len(progress.replicas)) == (36, 36, 1)
    assert (progress.counts["queries_complete"], progress.counts["queries_failed"]) == (30, 6)
    assert progress.windows_unanswered == 2
    assert any(ALL_REQUESTS_FAIL in error for error in progress.recent_errors)
    # only a live run has one
    assert read_status(mixed_run.settings.output.path, mixed_run.settings.storage).progress is None


def test_a_finished_output_is_kept(mixed_run: MixedRun) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in mixed_run.output.rglob("*") if path.suffix in (".parquet", ".html")
    }
    again, lines = rerank(mixed_run.settings)
    assert again == mixed_run.manifest
    assert len([line for line in lines if line.startswith("nothing to do: ")]) == 1
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_limit_takes_the_first_queries_of_long_form_input_and_a_template_shows_their_columns(tmp_path: Path) -> None:
    sources = [query(number) for number in range(9)]
    long = [
        {"query_id": row["query_id"], "query": row["query"], "task": f"Find {row['query_id']}"}
        | {"rank": rank, **candidate}
        for row in sources
        for rank, candidate in enumerate(row["candidates"], 1)
    ]
    write_input(tmp_path / "in", long, LONG_INPUT.append(pa.field("task", pa.string())))
    rerank(config(tmp_path), limit=4)
    assert sorted(rows_of(config(tmp_path))) == ["q0000", "q0001", "q0002", "q0003"]
    changed = config(tmp_path, "--strategy.stride=4")
    with pytest.raises(OutputError, match=r"limit: 4 -> null\n.*strategy\.stride: 2 -> 4"):
        rerank(changed)
    template = (PROMPTS_DIRECTORY / "reasonrank.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(template.replace('before_passages: "', 'before_passages: "{column:task}. '))
    shows_task = config(tmp_path, f"--prompt.template={tmp_path}/own.yaml", f"--engine.log_path={tmp_path}/requests")
    rerank(shows_task, new_run=True)
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "requests").read_text().splitlines()]
    assert {task for prompt in prompts for task in re.findall(r"Find q\d{4}\. I will", prompt)} == {
        f"Find {row['query_id']}. I will" for row in sources
    }
    out = rows_of(config(tmp_path))
    assert len(out) == 9
    for source in sources:
        check_ranking(out[source["query_id"]], source)
        assert [entry["initial_rank"] for entry in out[source["query_id"]]["ranking"]] == [5, 6, 2, 1, 4, 3]


def test_a_slow_query_delays_no_other(tmp_path: Path) -> None:
    """One query is slower than the others: they all finish while it runs, and the replica stays full."""
    write_input(tmp_path / "in", [query(number) for number in range(48)])
    settings = config(
        tmp_path,
        "--engine.delay_seconds=0.05",
        f"--engine.log_path={tmp_path}/log",
        "--engine.answers=helpers.gated_answers:after_the_others",
        f"--engine.arguments={{log: '{tmp_path}/log', substring: q0001, completed: {47 * 2}}}",
    )
    manifest, _ = rerank(settings)
    out = rows_of(settings)
    slow = out.pop("q0001")
    concurrent = [
        sum(other["started_at"] <= row["started_at"] < other["finished_at"] for other in out.values())
        for row in out.values()
        if row["started_at"] > slow["started_at"]
    ]
    assert max(concurrent) >= max_windows_in_flight(settings) - 1  # more once no further query arrives
    assert manifest["queries_by_status"] == {"complete": 48}


def test_a_replica_that_starts_late_gets_its_share(tmp_path: Path) -> None:
    """The first replica has slots for all eight queries."""
    write_input(tmp_path / "in", [query(number, 4) for number in range(8)])
    log = tmp_path / "log"
    settings = config(
        tmp_path,
        "--cluster={replicas: 2, queries_in_flight: 8, queries_per_block: 1}",
        f"--engine.log_path={log}",
        "--engine.answers=helpers.gated_answers:second_starts_late",
        f"--engine.arguments={{log: '{log}', requested: 4, total: 8}}",
    )
    rerank(settings)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(Counter(line["process"] for line in lines if line["event"] == "requested").values()) == [4, 4]


def test_retry_reranks_failed_queries_only_although_no_report_can_be_written(tmp_path: Path) -> None:
    rows = [query(number) for number in range(6)]
    write_input(tmp_path / "in", rows)
    gate = tmp_path / "open"
    settings = config(
        tmp_path,
        "--engine.answers=helpers.gated_answers:gated",
        f"--engine.arguments={{gate: '{gate}', substring: q0004}}",
        "--report.qrels=/no/such/qrels",
    )
    first, lines = rerank(settings)
    assert (tmp_path / "out" / "_SUCCESS").exists()
    (line,) = [line for line in lines if line.startswith("cannot write the report; try `corpus-reranker report`: ")]
    assert "/no/such/qrels" in line
    assert first["queries_by_status"] == {"complete": 5, "failed": 1}
    before = rows_of(settings)
    gate.touch()
    record = tmp_path / "out" / "_run" / "run.json"
    record.write_text(record.read_text().replace(f'"version": "{__version__}"', '"version": "0.0.9"'))
    second, lines = rerank(settings, retry=("failed", "degraded"))
    assert f"begun by 0.0.9, resumed by {__version__}" in lines
    assert second["info"]["versions"] == {"started": "0.0.9", "finished": __version__}
    after = rows_of(settings)
    assert second["queries_by_status"] == {"complete": 6}
    check_ranking(after["q0004"], rows[4])
    assert {key: row for key, row in after.items() if key != "q0004"} == {
        key: row for key, row in before.items() if key != "q0004"
    }


def test_a_footer_that_crashes_pyarrow_is_an_input_error(tmp_path: Path) -> None:
    """pyarrow 26 aborts on this byte of the schema; other versions reject the file or its columns."""
    write_input(tmp_path / "in", [query(0)])
    path = tmp_path / "in" / "0.parquet"
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[footer + 18] = 0
    path.write_bytes(content)
    with pytest.raises(InputError):
        rerank(config(tmp_path))


def test_a_damaged_page_is_an_input_error_that_names_its_file(tmp_path: Path) -> None:
    rows = [query(number) for number in range(4)]
    write_input(tmp_path / "in", rows, files=2)
    path = tmp_path / "in" / "1.parquet"
    group = pq.read_metadata(path).row_group(0)
    column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "query")
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + column.total_compressed_size // 2] = b"\xff" * (
        column.total_compressed_size // 2
    )
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"1.parquet cannot be read: .*; replace the file"):
        rerank(config(tmp_path))


def test_replicas_that_take_all_cpus_are_refused_before_any_engine(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    cpus = int(ray.cluster_resources()["CPU"])
    with pytest.raises(ConfigError, match=f"leave 0 CPUs of {cpus} in the cluster, and reading needs 1"):
        rerank(config(tmp_path, f"--cluster.replicas={cpus}"))
