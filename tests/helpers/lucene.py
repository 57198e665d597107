"""A Lucene index of search documents, for a subprocess: a JVM must not start in the process that runs the tests."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus_reranker.retrieval.java import start_jvm
from helpers.jvm import HEAP_BYTES

LUCENE = "org.apache.lucene"
FIELDS = {
    "keyword": "StringField",
    "text": "TextField",
    "integer": "NumericDocValuesField",
    "double": "DoubleDocValuesField",
    "float": "FloatDocValuesField",
}
SORT_TYPES = {"integer": "INT", "double": "DOUBLE", "float": "FLOAT"}


@dataclass
class Found:
    """What the index returns for a query: doc_ids.

    Attributes:
        stored: The ranking of the stored document with the `_id`.
        by_rank: Entries with the `query_id`, sorted by rank.
        by_score: Entries with the `query_id`, sorted by falling score.
        by_text: The ranking of the best document for the query's text.
    """

    stored: list[str]
    by_rank: list[str]
    by_score: list[str]
    by_text: list[str]


def index_and_find(
    documents: Mapping[str, Mapping[str, Any]], properties: Mapping[str, Any], query_ids: Sequence[str]
) -> list[Found]:
    """Index `documents` by their `_id` with the field types of an Elasticsearch mapping, then find the queries.

    An entry of a nested field is an indexed document, as in Elasticsearch.
    """
    index = _Index(properties)
    for document_id, document in documents.items():
        index.add(document_id, document)
    index.open()
    return [index.find(query_id, documents[query_id]["query"]) for query_id in query_ids]


class _Index:
    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._class = start_jvm(HEAP_BYTES)
        self._properties = properties
        self._store = self._class(f"{LUCENE}.document.Field$Store")
        self._directory = self._class(f"{LUCENE}.store.ByteBuffersDirectory")()
        self._analyzer = self._class(f"{LUCENE}.analysis.standard.StandardAnalyzer")()
        settings = self._class(f"{LUCENE}.index.IndexWriterConfig")(self._analyzer)
        self._writer = self._class(f"{LUCENE}.index.IndexWriter")(self._directory, settings)

    def add(self, document_id: str, document: Mapping[str, Any]) -> None:
        top = {name: value for name, value in document.items() if name != "ranking"}
        source = self._class(f"{LUCENE}.document.StoredField")("_source", json.dumps(document))
        identity = self._field("_id", "keyword", document_id)
        self._add([source, identity, *self._fields(self._properties, top)])
        ranking = self._properties["ranking"]
        assert ranking["type"] == "nested"
        for entry in reversed(document["ranking"]):  # Lucene returns ties in the order of indexing
            parent = self._field("_parent", "keyword", document["query_id"])
            self._add([parent, *self._fields(ranking["properties"], entry)])

    def open(self) -> None:
        self._writer.close()
        reader = self._class(f"{LUCENE}.index.DirectoryReader").open(self._directory)
        self._searcher = self._class(f"{LUCENE}.search.IndexSearcher")(reader.getContext())

    def find(self, query_id: str, text: str) -> Found:
        entries = self._term("_parent", query_id)
        words = self._class(f"{LUCENE}.util.QueryBuilder")(self._analyzer).createBooleanQuery("query", text)
        return Found(
            stored=_doc_ids(self._search(self._term("_id", query_id), "_source")),
            by_rank=list(self._search(entries, "doc_id", "rank")),
            by_score=list(self._search(entries, "doc_id", "score", descending=True)),
            by_text=_doc_ids(self._search(words, "_source")),
        )

    def _add(self, fields: Sequence[Any]) -> None:
        document = self._class(f"{LUCENE}.document.Document")()
        for field in fields:
            document.add(field)
        self._writer.addDocument(document)

    def _fields(self, properties: Mapping[str, Any], values: Mapping[str, Any]) -> list[Any]:
        return [self._field(name, properties[name]["type"], value) for name, value in values.items()]

    def _field(self, name: str, kind: str, value: Any) -> Any:
        cls = self._class(f"{LUCENE}.document.{FIELDS[kind]}")
        return cls(name, value, self._store.YES) if kind in ("keyword", "text") else cls(name, value)

    def _term(self, name: str, value: str) -> Any:
        return self._class(f"{LUCENE}.search.TermQuery")(self._class(f"{LUCENE}.index.Term")(name, value))

    def _search(self, query: Any, field: str, sort_by: str | None = None, descending: bool = False) -> Iterator[str]:
        """Values of a stored field, best first."""
        sort = []
        if sort_by is not None:
            kind = SORT_TYPES[self._properties["ranking"]["properties"][sort_by]["type"]]
            sort_type = getattr(self._class(f"{LUCENE}.search.SortField$Type"), kind)
            sort_field = self._class(f"{LUCENE}.search.SortField")(sort_by, sort_type, descending)
            sort = [self._class(f"{LUCENE}.search.Sort")(sort_field)]
        stored = self._searcher.storedFields()
        for hit in self._searcher.search(query, 10_000, *sort).scoreDocs:
            yield stored.document(hit.doc).get(field)


def _doc_ids(sources: Iterator[str]) -> list[str]:
    """The doc_ids of the first document."""
    return [entry["doc_id"] for entry in json.loads(next(sources))["ranking"]]
