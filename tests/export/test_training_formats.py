"""Training data in the formats of the trainers, and a training run of sentence-transformers from it."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.cli.demo_model import packaged_embedder
from corpus_reranker.errors import InputError, RerankerError
from corpus_reranker.export.exporter import Exported, export
from corpus_reranker.export.settings import ExportConfig
from helpers.synthetic_output import candidate_texts, output_row, write_candidates, write_data_files

LOCAL = LocalFileSystem()
ROWS = [output_row("1", [2, 0, 1, *range(3, 30)]), output_row("2", [1, 0, *range(2, 30)]), output_row("3", [0])]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return write_data_files(tmp_path / "out", [ROWS[:1], ROWS[1:]])


def run(output: Path, to: str, qrels: dict[str, dict[str, int]] | None = None, **options: Any) -> Exported:
    """Export `output` with texts to the folder `to` beside it. `options` are those of the training data."""
    destination = output.parent / "to"
    settings = {"negatives": 2, "min_negative_rank": 29, **options}
    config = ExportConfig.model_validate({"to": to, "destination": str(destination), "training": settings})
    candidates = output.parent / "in"
    if not candidates.exists():
        write_candidates(candidates, ["1", "2", "3"])
    texts = candidate_texts(candidates)
    return export((LOCAL, str(output)), (LOCAL, str(destination)), config, texts, qrels=qrels)


def lines(output: Path) -> list[Any]:
    return [json.loads(line) for line in (output.parent / "to/train/rankings.jsonl").read_text().splitlines()]


def rows(output: Path) -> list[Any]:
    return list(pq.read_table(output.parent / "to/train/rankings.parquet").to_pylist())


def test_triples(output: Path) -> None:
    exported = run(output, "triples", positives=2)
    assert len(lines(output)) == exported.records == 4
    assert lines(output)[0] == {
        "query_id": "1",
        "query": "text of 1",
        "positive": {"doc_id": "d2", "label": 1.0, "title": "t2", "text": "1 d2"},
        "negatives": [
            {"doc_id": "d28", "label": 1 / 29, "title": "t28", "text": "1 d28"},
            {"doc_id": "d29", "label": 1 / 30, "title": "t29", "text": "1 d29"},
        ],
        "label_source": "rank",
    }


def test_flag_embedding(output: Path) -> None:
    run(output, "flag_embedding", positives=2)
    assert lines(output)[1] == {
        "query": "text of 2",
        "pos": ["t1 2 d1", "2 d0"],
        "neg": ["t28 2 d28", "t29 2 d29"],
        "pos_scores": [1.0, 0.5],
        "neg_scores": [1 / 29, 1 / 30],
        "label_source": "rank",
    }


def test_tevatron(output: Path) -> None:
    run(output, "tevatron", positives=2)
    line = lines(output)[1]
    assert (line["query_id"], line["query"], line["label_source"]) == ("2", "text of 2", "rank")
    assert line["positive_passages"] == [
        {"docid": "d1", "title": "t1", "text": "2 d1", "score": 1.0},
        {"docid": "d0", "title": "", "text": "2 d0", "score": 0.5},
    ]
    assert [passage["docid"] for passage in line["negative_passages"]] == ["d28", "d29"]


def test_listwise_rows_hold_all_documents_and_labels(output: Path) -> None:
    run(output, "listwise")
    docs, label = ["t2 1 d2", "t28 1 d28", "t29 1 d29"], [1.0, 1 / 29, 1 / 30]
    assert rows(output)[0] == {"query": "text of 1", "docs": docs, "label": label}


def test_margin_mse_and_hard_negatives(output: Path) -> None:
    run(output, "margin_mse")
    passages = {"positive": "t2 1 d2", "negative_1": "t28 1 d28", "negative_2": "t29 1 d29"}
    assert rows(output)[0] == {"query": "text of 1", **passages, "label": [1.0, 1 / 29, 1 / 30]}


def test_hard_negatives(output: Path) -> None:
    run(output, "hard_negatives")
    passages = {"positive": "t1 2 d1", "negative_1": "t28 2 d28", "negative_2": "t29 2 d29"}
    assert rows(output)[1] == {"query": "text of 2", **passages}


@pytest.mark.parametrize("to", ["flag_embedding", "tevatron", "listwise", "margin_mse"])
def test_an_export_records_its_labels_and_the_queries_without_one(tmp_path: Path, to: str) -> None:
    scored = output_row("1", list(range(30)))
    for entry in scored["ranking"]:
        entry["llm_score"] = -float(entry["rank"])
    output = write_data_files(tmp_path / "out", [[scored, *ROWS[1:]]])
    exported = run(output, to, qrels={"2": {"d29": 1}}, negatives=1)
    assert exported.label_sources == {"llm_score": 1, "rank": 1}
    assert exported.skipped.counts == {"too few negatives": 1}
    if to in ("listwise", "margin_mse"):
        metadata = pq.read_metadata(tmp_path / "to/train/rankings.parquet").metadata
        assert json.loads(metadata[b"reranker.labels"]) == {"llm_score": 1, "rank": 1}
        assert "d29" not in str(rows(output)[1])
    else:
        assert [line["label_source"] for line in lines(output)] == ["llm_score", "rank"]
        assert "d29" not in str(lines(output)[1])


def test_reasoning_of_the_last_window_with_the_top_ranks(tmp_path: Path) -> None:
    windows = [{"start": 10, "reasoning": "low"}, {"start": 0, "reasoning": "top"}, {"start": 0, "reasoning": None}]
    output = write_data_files(tmp_path / "out", [[output_row("1", list(range(30)), windows=windows), ROWS[1]]])
    run(output, "triples", reasoning=True)
    assert [line["reasoning"] for line in lines(output)] == ["top", None]
    with pytest.raises(ValueError, match=r"training.reasoning is not for listwise, which has no field for it"):
        run(output, "listwise", reasoning=True)


@pytest.mark.parametrize("to", ["triples", "flag_embedding", "margin_mse"])
def test_candidates_of_another_output_are_an_error(tmp_path: Path, to: str) -> None:
    with pytest.raises(InputError, match="does not hold query 'q'"):
        run(write_data_files(tmp_path / "a/out", [[output_row("q", list(range(30)))]]), to)
    with pytest.raises(InputError, match="'d30' is not in the candidates"):
        run(write_data_files(tmp_path / "b/out", [[output_row("1", list(range(31)))]]), to)


def test_texts_are_needed_but_for_triples(output: Path, tmp_path: Path) -> None:
    for to in ("tevatron", "hard_negatives", "triples"):
        config = ExportConfig.model_validate({"to": to, "destination": str(tmp_path / to)})
        with pytest.raises(InputError, match=r"name (the|its) candidates with --input"):
            export((LOCAL, str(output)), (LOCAL, str(tmp_path / to)), config)
    titled = write_data_files(tmp_path / "named/out", [[output_row("1", list(range(30)), query="why?")]])
    export((LOCAL, str(titled)), (LOCAL, str(tmp_path / "named/to")), config)
    assert lines(titled)[0]["positive"] == {"doc_id": "d0", "label": 1.0}


@pytest.mark.parametrize("to", ["flag_embedding", "tevatron", "listwise", "margin_mse", "hard_negatives"])
def test_datasets_reads_the_folder(output: Path, tmp_path: Path, to: str) -> None:
    datasets = pytest.importorskip("datasets")
    run(output, to)
    loaded = datasets.load_dataset(str(tmp_path / "to"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 2
    assert loaded[0]["query"] == "text of 1"


@pytest.mark.slow
def test_sentence_transformers_trains_from_an_export(tmp_path: Path) -> None:
    """Margin-MSE on MiniLM, some steps on the CPU: the loss falls."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    datasets = pytest.importorskip("datasets")
    try:
        model = sentence_transformers.SentenceTransformer(str(packaged_embedder()), device="cpu")
    except RerankerError as error:
        pytest.skip(str(error))
    output = write_data_files(tmp_path / "out", [ROWS[:2]])
    run(output, "margin_mse")
    dataset = datasets.load_dataset(str(tmp_path / "to"), split="train", cache_dir=str(tmp_path / "cache"))
    arguments = sentence_transformers.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "trained"),
        max_steps=6,
        per_device_train_batch_size=2,
        learning_rate=1e-4,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=0,
    )
    from sentence_transformers.sentence_transformer.losses import MarginMSELoss

    loss = MarginMSELoss(model)
    trainer = sentence_transformers.SentenceTransformerTrainer(model, arguments, dataset, loss=loss)
    trainer.train()

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]
