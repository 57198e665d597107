"""Datasets of the package ir_datasets, by id: `beir/scifact/test`, `msmarco-passage/trec-dl-2020/judged`.

Source: the entities `docs`, `queries`, `qrels` and `scoreddocs` on ir-datasets.com/python.html.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.trec import Qrel
from corpus_reranker.retrieval.first_stage_run import load_first_stage_run
from corpus_reranker.retrieval.layouts.base import Collection, Dataset

_ALL = 2**31
"""More hits than any run has."""


def from_ir_datasets(dataset: Dataset) -> Collection:
    """The dataset whose id is `path`. Its id names a split, so `split` has no meaning.

    Its `scoreddocs` are the run if no other is given. With a run, only the documents of the run are converted.

    Raises:
        ConfigError: ir_datasets is not installed.
        InputError: There is no such dataset, or it cannot be downloaded.
    """
    try:
        import ir_datasets
    except ImportError as error:
        raise ConfigError(
            "ir_datasets is not installed; install the extra: pip install 'corpus-reranker[ir-datasets]'"
        ) from error
    name = dataset.settings.path
    try:
        source = ir_datasets.load(name)
        return _convert(source, dataset)
    except KeyError as error:
        raise InputError(f"ir_datasets has no dataset {name!r}: {error}") from error
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"ir_datasets cannot read {name!r}: {error}; without a network, copy a filled folder ~/.ir_datasets or set"
            " IR_DATASETS_HOME to one"
        ) from error


def _convert(source: Any, dataset: Dataset) -> Collection:
    run = dataset.run
    with dataset.write("queries.jsonl") as [write]:
        for query in source.queries_iter():
            write({"query_id": query.query_id, "query": _text(query)})
    if run is None and source.has_scoreddocs():
        run = dataset.converted_file("run.jsonl")
        with dataset.write("run.jsonl") as [write]:
            for scored in source.scoreddocs_iter():
                write({"query_id": scored.query_id, "doc_id": scored.doc_id, "score": scored.score})
    with dataset.write("corpus.jsonl") as [write]:
        for document in _documents(source, dataset, run):
            title = getattr(document, "title", None) or None
            write({"doc_id": document.doc_id, "title": title, "text": _text(document)})
    return Collection(
        queries={"path": dataset.converted_file("queries.jsonl")},
        corpus={"path": dataset.converted_file("corpus.jsonl")},
        run=run,
        judgments=_judgments(source) if source.has_qrels() else None,
    )


def _documents(source: Any, dataset: Dataset, run: str | None) -> Iterable[Any]:
    if run is None:
        return source.docs_iter()  # type: ignore[no-any-return]
    doc_ids = load_first_stage_run(*resolve(run, dataset.storage), _ALL).doc_ids
    return source.docs_store().get_many_iter(doc_ids)  # type: ignore[no-any-return]


def _judgments(source: Any) -> Iterator[Qrel]:
    for qrel in source.qrels_iter():
        yield Qrel(qrel.query_id, qrel.doc_id, int(qrel.relevance))


def _text(entity: Any) -> str:
    """`text` or `body`, else all text of the entity in one string."""
    return str(getattr(entity, "text", None) or getattr(entity, "body", None) or entity.default_text())
