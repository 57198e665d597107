"""Exports of an output in every format, and training triples."""

import json
from pathlib import Path
from typing import Any

import ir_measures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem, copy_files

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.evaluation import candidate_texts as candidate_texts_module
from corpus_reranker.evaluation import rankings
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.trec import escape_id, group_run
from corpus_reranker.export import exporter
from corpus_reranker.export.exporter import Exported, export
from corpus_reranker.export.formats.long_parquet import LONG_SCHEMA, long_rows
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.schemas import RANKING
from corpus_reranker.io.sources.parquet import ROWS_PER_BATCH
from corpus_reranker.io.trec import open_text, read_run
from helpers.contributing import guide_code
from helpers.locations import Location
from helpers.synthetic_output import SCHEMA, candidate_texts, output_row, write_candidates, write_data_files

LOCAL = LocalFileSystem()
CONTROL_FILES = {"_SUCCESS", "_export.json", "_skipped.jsonl"}
ROWS = [[output_row("1", [2, 0, 1], query="what?")], [output_row("2", [1, 0]), output_row("3", [0])]]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return write_data_files(tmp_path / "out", ROWS)


def run(output: Path, destination: Path, to: str, **options: Any) -> Exported:
    config = ExportConfig.model_validate({"to": to, "destination": str(destination), **options})
    return export((LOCAL, str(output)), (LOCAL, str(destination)), config)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_trec_runs_of_both_orders(output: Path, tmp_path: Path) -> None:
    exported = run(output, tmp_path / "to", "trec")
    assert files(tmp_path / "to") == {
        *CONTROL_FILES,
        "reranked/rankings.trec",
        "initial/rankings.trec",
    }
    assert (tmp_path / "to/reranked/rankings.trec").read_text().splitlines()[:3] == [
        "1 Q0 d2 1 3.0 corpus-reranker",
        "1 Q0 d0 2 2.0 corpus-reranker",
        "1 Q0 d1 3 1.0 corpus-reranker",
    ]
    assert (tmp_path / "to/initial/rankings.trec").read_text().splitlines()[3:] == [
        "2 Q0 d0 1 2.0 corpus-reranker",
        "2 Q0 d1 2 1.0 corpus-reranker",
        "3 Q0 d0 1 1.0 corpus-reranker",
    ]
    assert (exported.queries, exported.records, len(exported.files)) == (3, 12, 2)


def test_tied_first_stage_scores_keep_their_order_in_trec_eval(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [0, 1, 2], [1.0, 1.0, 1.0])]])
    run(output, tmp_path / "to", "trec")
    with open_text(str(tmp_path / "to/initial/rankings.trec")) as lines:
        assert group_run(read_run(lines)) == {"1": ["d0", "d1", "d2"]}


def test_the_parquet_export_has_one_row_per_candidate(output: Path, tmp_path: Path) -> None:
    exported = run(output, tmp_path / "to", "parquet")
    table = pq.read_table(tmp_path / "to/part-00000.parquet")
    assert table.schema.equals(LONG_SCHEMA)
    assert table.to_pylist() == [
        {"query_id": "1", "doc_id": f"d{index}", "rank": rank, "score": score}
        for rank, index, score in ((1, 2, 3.0), (2, 0, 2.0), (3, 1, 1.0))
    ]
    assert exported.records == 6


@given(st.lists(st.integers(0, 5).flatmap(lambda size: st.permutations(range(size))), max_size=5))
def test_long_rows_are_ordered_by_rank_within_their_query(orders: list[list[int]]) -> None:
    rows = [output_row(f"q{number}", order) for number, order in enumerate(orders)]
    for row in rows:
        row["ranking"].reverse()
    batch = pa.RecordBatch.from_pylist(rows, pa.schema([("query_id", pa.string()), ("ranking", RANKING)]))
    assert [(row["query_id"], row["doc_id"]) for row in long_rows(batch).to_pylist()] == [
        (f"q{number}", f"d{index}") for number, order in enumerate(orders) for index in order
    ]


@pytest.mark.parametrize("to", ["trec", "parquet"])
def test_from_and_to_local_disk_and_s3(location: Location, output: Path, to: str) -> None:
    filesystem, folder = resolve(f"{location.url}/out", location.storage)
    copy_files(str(output), folder, LOCAL, filesystem)
    destination = resolve(f"{location.url}/to", location.storage)
    config = ExportConfig.model_validate({"to": to, "destination": f"{location.url}/to", "single_file": False})
    exported = export((filesystem, folder), destination, config)
    assert exported.queries == 3
    written = {info.path.removeprefix(f"{destination[1]}/") for info in list_files(*destination, recursive=True)}
    data = {"trec": {f"{order}/part-0000{n}.trec" for order in ("reranked", "initial") for n in (0, 1)}}
    data["parquet"] = {"part-00000.parquet", "part-00001.parquet"}
    assert written == CONTROL_FILES | data[to]
    export((filesystem, folder), destination, config.model_copy(update={"overwrite": True}))
    with pytest.raises(OutputError, match="not empty"):
        export((filesystem, folder), destination, config)


def test_an_export_carries_the_metadata_of_its_output(tmp_path: Path) -> None:
    metadata = {"reranker.model": "m", "reranker.template_hash": "abc", "reranker.fingerprint": "f"}
    output = write_data_files(tmp_path / "out", [[output_row("1", [0])]], SCHEMA.with_metadata(metadata))
    run(output, tmp_path / "to", "parquet")
    written = pq.read_schema(tmp_path / "to/part-00000.parquet").metadata
    assert {key.decode(): value.decode() for key, value in written.items()} == metadata
    assert json.loads((tmp_path / "to/_export.json").read_text())["metadata"] == metadata


FORMATS = ["trec", "parquet", "elasticsearch", "vespa", "triples"]


@pytest.mark.parametrize("to", FORMATS)
def test_an_unfinished_output_is_exported_only_on_request(tmp_path: Path, to: str) -> None:
    rows = [[output_row(str(number), [1, 0], query="?") for number in range(4)], [output_row("2", [0, 1], query="?")]]
    output = write_data_files(tmp_path / "out", rows)
    (output / "_SUCCESS").unlink()
    (output / "part-00009.parquet").write_bytes(b"PAR1 of a file that a live run is writing")
    (output / "_run/run.json").write_text('{"queries": 20}')
    with pytest.raises(InputError, match=r"5 of 20 queries and no _SUCCESS.*--allow-unfinished"):
        run(output, tmp_path / "to", to)
    with pytest.raises(InputError, match="5 of 20 queries"):
        run(output / "part-00000.parquet", tmp_path / "to", to)
    assert not (tmp_path / "to").exists()
    exported = run(output, tmp_path / "to", to, allow_unfinished=True, training={"min_negative_rank": 2})
    assert exported.queries == 4
    assert exported.skipped.counts == {"query twice": 1}


@pytest.mark.parametrize("to", FORMATS)
def test_an_output_of_no_model_is_exported_only_on_request(tmp_path: Path, to: str) -> None:
    rows = [[output_row("1", [1, 0], query="?")]]
    output = write_data_files(tmp_path / "out", rows, SCHEMA.with_metadata({"reranker.simulated": "true"}))
    with pytest.raises(InputError, match=r"scripted or simulated.*--allow-simulated"):
        run(output, tmp_path / "to", to)
    assert not (tmp_path / "to").exists()
    exported = run(output, tmp_path / "to", to, allow_simulated=True, training={"min_negative_rank": 2})
    assert exported.queries == 1


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("statuses", [None, ("failed",), ("complete", "degraded", "failed")])
def test_an_export_holds_the_requested_statuses_and_lists_the_others(
    tmp_path: Path, to: str, statuses: tuple[str, ...] | None
) -> None:
    ids = {"c": "complete", "d": "degraded", "f": "failed", "e": "failed", "n": "complete"}
    orders = {query_id: [] if query_id in "en" else [1, 0] for query_id in ids}
    rows = [[output_row(query_id, orders[query_id], status=ids[query_id], query="?") for query_id in ids]]
    output = write_data_files(tmp_path / "out", rows)
    exported = run(output, tmp_path / "to", to, statuses=statuses, training={"min_negative_rank": 2})
    chosen = statuses or (("complete",) if to == "triples" else ("complete", "degraded"))
    assert exported.queries == sum(status in chosen and bool(orders[query_id]) for query_id, status in ids.items())
    skipped = json_lines(tmp_path / "to/_skipped.jsonl")
    assert {line["query_id"]: line["reason"] for line in skipped} == {
        query_id: "status" if ids[query_id] not in chosen else "no ranking"
        for query_id in ids
        if ids[query_id] not in chosen or not orders[query_id]
    }
    assert sum(exported.skipped.counts.values()) == len(skipped) == len(ids) - exported.queries
    if to in ("elasticsearch", "vespa"):
        assert '"ranking": []' not in (tmp_path / "to/part-00000.jsonl").read_text()


IDS = st.sampled_from(["a", "b", "a b", "a%20b", "", "\ufeffa", "a\x85b"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=4
)


@given(
    rankings=st.dictionaries(IDS, st.lists(IDS, min_size=1, max_size=6), min_size=1, max_size=4),
    trec_ids=st.sampled_from(["skip", "escape"]),
)
def test_every_exported_run_is_read_by_ir_measures_and_by_evaluate(
    tmp_path_factory: pytest.TempPathFactory, rankings: dict[str, list[str]], trec_ids: str
) -> None:
    """Rankings of any ids, doc_ids also twice: what is not in the run is listed, and the rest is read in its order."""
    folder = tmp_path_factory.mktemp("trec")
    rows = [output_row(query_id, list(range(len(doc_ids)))) for query_id, doc_ids in rankings.items()]
    for row, doc_ids in zip(rows, rankings.values(), strict=True):
        for entry, doc_id in zip(row["ranking"], doc_ids, strict=True):
            entry["doc_id"] = doc_id
    exported = run(write_data_files(folder / "out", [rows]), folder / "to", "trec", trec_ids=trec_ids)

    known = str if trec_ids == "skip" else escape_id
    skipped = json_lines(folder / "to/_skipped.jsonl")
    skipped_queries = {line["query_id"] for line in skipped if "doc_id" not in line}
    skipped_documents = {
        (line["query_id"], line["doc_id"]) for line in skipped if "white" in line["reason"] and "doc_id" in line
    }
    expected = {
        known(query_id): list(
            dict.fromkeys(known(doc_id) for doc_id in doc_ids if (query_id, doc_id) not in skipped_documents)
        )
        for query_id, doc_ids in rankings.items()
        if query_id not in skipped_queries
    }
    expected = {query_id: doc_ids for query_id, doc_ids in expected.items() if doc_ids}
    assert sum(exported.skipped.counts.values()) == len(skipped)
    in_runs = [(q, d) for q in rankings for d in rankings[q] if q not in skipped_queries]
    twice = len(in_runs) - len(set(in_runs)) - sum(in_runs.count(each) - 1 for each in skipped_documents)
    assert exported.skipped.counts["doc_id twice"] == twice
    if trec_ids == "escape":
        assert "" in rankings or not skipped_queries
        assert {doc_id for _, doc_id in skipped_documents} <= {""}

    path = folder / "to/reranked/rankings.trec"
    read: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8") as lines:
        for query_id, doc_id, score in ir_measures.read_trec_run(lines):
            assert doc_id not in read.setdefault(query_id, {})
            read[query_id][doc_id] = score
    assert {q: sorted(scores, key=lambda d: -scores[d]) for q, scores in read.items()} == expected
    orders = {query.query_id: query.orders["run"] for query in read_orders(LOCAL, str(path), set(expected))}
    assert orders == expected
    assert len(list(ir_measures.read_trec_run(str(folder / "to/initial/rankings.trec")))) == sum(
        map(len, expected.values())
    )


def test_elasticsearch_bulk(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path / "to", "elasticsearch", index="best")
    action, document = json_lines(tmp_path / "to/part-00000.jsonl")
    assert action == {"index": {"_index": "best", "_id": "1"}}
    assert document["query_id"] == "1"
    assert document["query"] == "what?"
    assert document["ranking"][0] == {"doc_id": "d2", "rank": 1, "score": 3.0}
    assert len(json_lines(tmp_path / "to/part-00001.jsonl")) == 4


def test_vespa_feed(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path / "to", "vespa", columns=["query"])
    (put,) = json_lines(tmp_path / "to/part-00000.jsonl")
    assert put["put"] == "id:rankings:rankings::1"
    assert [entry["doc_id"] for entry in put["fields"]["ranking"]] == ["d2", "d0", "d1"]
    assert set(put["fields"]) == {"query_id", "query", "status", "ranking"}


def test_an_unknown_column_is_refused(output: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the output has no column nosuch; it has query_id, "):
        run(output, tmp_path / "to", "vespa", columns=["query", "nosuch"])
    assert not (tmp_path / "to").exists()


def test_all_rows_can_be_exported_to_one_file(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path / "to", "elasticsearch", single_file=True)
    assert files(tmp_path / "to") == {"rankings.jsonl", *CONTROL_FILES}
    assert len(json_lines(tmp_path / "to/rankings.jsonl")) == 6


@pytest.mark.parametrize("to", ["trec", "parquet", "elasticsearch"])
def test_a_failed_export_leaves_no_truncated_file(
    output: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_in_second_file(filesystem: Any, path: str, *columns: Any) -> Any:
        yield from rankings.read_batches(filesystem, path, *columns)
        if "00001" in path:
            raise InputError("scripted read error")

    monkeypatch.setattr(exporter, "read_batches", fail_in_second_file)
    with pytest.raises(InputError, match="scripted read error"):
        run(output, tmp_path / "to", to, single_file=False)
    exported = files(tmp_path / "to")
    assert "_SUCCESS" not in exported
    assert any("00000" in name for name in exported)
    assert not any("00001" in name for name in exported)

    monkeypatch.undo()
    run(output, tmp_path / "to", to, overwrite=True)
    assert "_SUCCESS" in files(tmp_path / "to")


def test_overwrite_replaces_an_export_and_nothing_else(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path / "to", "trec")
    with pytest.raises(OutputError, match="not empty"):
        run(output, tmp_path / "to", "parquet")
    run(output, tmp_path / "to", "parquet", overwrite=True)
    assert not (tmp_path / "to/reranked").exists()

    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(OutputError, match="no export"):
        run(output, other, "trec", overwrite=True)
    assert (other / "thesis.tex").exists()


@pytest.mark.parametrize("destination", [".", "..", "exports"])
def test_an_export_into_its_output_is_refused(output: Path, destination: str) -> None:
    with pytest.raises(OutputError, match="overlap; choose another destination"):
        run(output, (output / destination).resolve(), "trec", overwrite=True)
    assert files(output) >= {"part-00000.parquet", "part-00001.parquet"}


def test_other_parquet_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["1"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no column status, ranking"):
        run(tmp_path / "x.parquet", tmp_path / "to", "trec")


@pytest.mark.parametrize("kept_bytes", [1, 64 * 2**20])
def test_texts_of_a_large_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int) -> None:
    """Any order of lookups finds every text, also of rows that are no longer kept; `kept_bytes` bounds the memory."""
    monkeypatch.setattr(candidate_texts_module, "_KEPT_BYTES", kept_bytes)
    query_ids = [f"q{number}" for number in range(5 * ROWS_PER_BATCH)]
    texts = candidate_texts(write_candidates(tmp_path / "in", query_ids, row_group_size=3 * ROWS_PER_BATCH))
    for query_id in [query_ids[0], *reversed(query_ids[::50]), query_ids[-1], query_ids[1]]:
        assert texts.find(query_id).passages["d3"]["text"] == f"{query_id} d3"
        for group in texts._open.values():
            assert len(group._kept) == 1 or sum(table.nbytes for _, table in group._kept) <= kept_bytes


def test_candidate_texts_need_candidates_in_nested_form(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["1"], "query": ["what?"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet: no column .candidates."):
        candidate_texts(tmp_path / "x.parquet")
    long_form = {"query_id": ["1"], "query": ["what?"], "doc_id": ["d"], "text": ["t"], "score": [1.0]}
    pq.write_table(pa.table(long_form), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="must be in nested form"):
        candidate_texts(tmp_path / "x.parquet")


def test_the_guides_export_format_is_loaded_from_outside_the_package(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "top_documents.py").write_text(guide_code("Add an export format"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    exported = run(output, tmp_path / "to", "top_documents:TopDocuments", tag="best")
    assert (tmp_path / "to/part-00000.txt").read_text() == "best 1 d2\n"
    assert exported.records == 3


def test_an_unknown_format_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown export format 'trek'; did you mean 'trec'\?"):
        ExportConfig(to="trek", destination="out")
