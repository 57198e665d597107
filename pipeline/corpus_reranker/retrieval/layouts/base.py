"""The argument and the result of a layout."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.trec import Qrel, open_text, read_qrels
from corpus_reranker.retrieval.files import match_files, suffix_of

if TYPE_CHECKING:
    from corpus_reranker.retrieval.settings import DatasetConfig

WriteRow: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Writes one object as a line of JSON."""

_COMPRESSED = ("", ".gz")


@dataclass(frozen=True, slots=True)
class Collection:
    """A dataset as settings.

    Attributes:
        queries: Keys of `QueriesConfig`.
        corpus: Keys of `CorpusConfig`.
        run: URL of a run, if the dataset has one.
        judgments: The judgments of the split; None if the dataset has none.
    """

    queries: Mapping[str, Any]
    corpus: Mapping[str, Any]
    run: str | None = None
    judgments: Iterable[Qrel] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The files of a dataset.

    Attributes:
        settings: Path, split and subset.
        storage: How to reach the files.
        converted: URL of the folder for files that have to be converted.
        run: URL of the run whose documents are needed; None if there is none.
        files: Names of the files of the layout, for the message about a missing one.
    """

    settings: "DatasetConfig"
    storage: StorageConfig
    converted: str
    run: str | None = None

    @property
    def split(self) -> str:
        return self.settings.split

    def find(self, *names: str) -> str | None:
        """URL of the first of `names` that exists in the folder, plain or .gz; `*` matches any characters."""
        for name in names:
            for suffix in _COMPRESSED:
                url = f"{self.settings.path.rstrip('/')}/{name}{suffix}"
                if match_files(*resolve(url, self.storage)):
                    return url
        return None

    def need(self, *names: str) -> str:
        """Same as `find`. Raises InputError if there is no such file; the message names the expected files."""
        url = self.find(*names)
        if url is None:
            raise InputError(
                f"dataset {redact(self.settings.path)} has no {' or '.join(names)}, which the layout"
                f" {self.settings.layout} has for split {self.split!r}; docs/datasets.md says how to fill the folder"
            )
        return url

    def rows(self, url: str) -> Iterator[dict[str, Any]]:
        """Rows of Parquet, JSONL or JSON files (a list of objects, or an object of them by id, which becomes `_key`).

        Raises:
            InputError: A file cannot be read.
        """
        filesystem, pattern = resolve(url, self.storage)
        files = match_files(filesystem, pattern)
        if not files:
            raise InputError(f"no such file: {redact(url)}")
        for file in files:
            if suffix_of(file.path) == ".parquet":
                yield from _parquet_rows(filesystem, file.path)
            else:
                yield from _json_rows(filesystem, file.path)

    def qrels(self, url: str) -> Iterator[Qrel]:
        """Judgments of a qrels file in TREC's or BEIR's form."""
        filesystem, path = resolve(url, self.storage)
        with open_text(path, filesystem) as lines:
            yield from read_qrels(lines, path)

    def qrels_of_rows(self, url: str) -> Iterator[Qrel]:
        """Judgments of Parquet or JSONL rows with `query-id`, `corpus-id` and `score`."""
        for row in self.rows(url):
            yield Qrel(str(row["query-id"]), str(row["corpus-id"]), int(row["score"]))

    @contextmanager
    def write(self, *names: str) -> Iterator[list[WriteRow]]:
        """Write JSONL files of these names into the folder `converted`, all or none."""
        with ExitStack() as stack:
            streams = [
                stack.enter_context(atomic_output(*resolve(self.converted_file(name), self.storage))) for name in names
            ]
            yield [_row_writer(stream) for stream in streams]

    def converted_file(self, name: str) -> str:
        """URL of a converted file."""
        return f"{self.converted}/{name}"


Layout: TypeAlias = Callable[[Dataset], Collection]
"""Resolves a dataset. Raises InputError if it is not of this layout."""


def _row_writer(stream: Any) -> WriteRow:
    def write(row: Mapping[str, Any]) -> None:
        # A lone surrogate is written as a JSON escape: the readers refuse it in an id, and replace it in a text.
        stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    return write


def _parquet_rows(filesystem: Any, path: str) -> Iterator[dict[str, Any]]:
    try:
        with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _json_rows(filesystem: Any, path: str) -> Iterator[dict[str, Any]]:
    with open_text(path, filesystem) as text:
        try:
            if suffix_of(path) == ".json":
                content = json.load(text)
                rows = [{"_key": key, **row} for key, row in content.items()] if isinstance(content, dict) else content
            else:
                rows = (json.loads(line) for line in text if line.strip())
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict):
                    raise InputError(f"{path}, row {number}: expected a JSON object, got {type(row).__name__}")
                yield row
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not JSON: {error}") from error
