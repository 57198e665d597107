"""Kinds of tables by name. A kind is one file in tables/ and one line in TABLES."""

from typing import TYPE_CHECKING

from corpus_reranker.plugins import load_class

if TYPE_CHECKING:
    from corpus_reranker.publish.tables.base import Table

TABLES: dict[str, str] = {
    "delta": "corpus_reranker.publish.tables.delta:DeltaTable",
    "iceberg": "corpus_reranker.publish.tables.iceberg:IcebergTable",
    "lance": "corpus_reranker.publish.tables.lance:LanceTable",
    "hugging_face": "corpus_reranker.publish.tables.hugging_face:HuggingFaceFolder",
}


def table_class(name: str) -> "type[Table]":
    """The kind registered under `name`, or the class that "module:Class" names.

    Raises:
        ValueError: There is no such kind.
    """
    cls: type[Table] = load_class("kind of table", name, TABLES)
    return cls
