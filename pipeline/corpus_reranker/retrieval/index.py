"""Lucene indexes: built from a corpus, given as a folder, or prebuilt by pyserini."""

import difflib
import fcntl
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from corpus_reranker.errors import ConfigError, InputError, OutputError
from corpus_reranker.retrieval.java import start_jvm

_INFO_FILE = "reranker-index.json"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index was built from. `empty_documents` have neither text nor title and are not in the index."""

    corpus: str
    documents: int
    empty_documents: int
    pyserini: str


def passage(raw: str) -> tuple[str, str | None]:
    """Text and title of a stored document.

    Known layouts are JSON with the text in `text` (BEIR), `contents` (our indexes, MS MARCO, BRIGHT), `passage` or
    `segment` (MS MARCO v2). Anything else is returned unchanged as text. Our indexes store the title as the first
    line of `contents`, because `contents` is the field that Lucene searches.
    """
    try:
        document = json.loads(raw)
    except ValueError:
        return raw, None
    if not isinstance(document, dict):
        return raw, None
    title = document.get("title") or None
    if "text" not in document and title and str(document.get("contents", "")).startswith(f"{title}\n"):
        return document["contents"][len(title) + 1 :], title
    texts = (document.get(name) for name in ("text", "contents", "passage", "segment"))
    return next((text for text in texts if text), ""), title


def build_index(
    read: Callable[[], Iterable[pa.Table]], folder: Path, source: str, threads: int, heap_bytes: int
) -> IndexInfo:
    """Build an index at `folder`, which appears only when the index is complete.

    Title and text are stored, and searched as one field (Anserini's `contents`, Porter stemmer). Documents with
    neither are skipped and counted.

    Args:
        read: Yields tables of retrieval.corpus.DOCUMENTS; called again to find duplicates.
        folder: Folder of the index.
        source: Name of the corpus for messages.
        threads: Indexing threads.
        heap_bytes: Heap of the JVM.

    Raises:
        InputError: A doc_id occurs twice.
        ConfigError: There is no suitable Java.
        OutputError: The folder cannot be written.
    """
    autoclass = start_jvm(heap_bytes)
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot build an index at {folder}: {error}") from error
    try:
        arguments = ["-index", str(unfinished), "-input", "", "-collection", "JsonCollection", "-storeRaw"]
        indexer = autoclass("io.anserini.index.SimpleIndexer")([*arguments, "-threads", str(threads)])
        hashes, documents, empty = array("q"), 0, 0
        for table in read():
            rows = [row for row in table.to_pylist() if _has_text(row)]
            empty += len(table) - len(rows)
            hashes.extend(hash(row["doc_id"]) for row in rows)
            documents += int(indexer.addRawDocuments([_raw(row) for row in rows])) if rows else 0
        indexer.close()
        if documents != len(hashes):
            raise InputError(
                f"{source}: Anserini indexed {documents:,} of {len(hashes):,} documents; see its log above"
            )
        _check_unique(read, hashes, source)
        info = IndexInfo(source, documents, empty, version("pyserini"))
        (unfinished / _INFO_FILE).write_text(json.dumps(asdict(info), indent=1), encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return info


def read_info(folder: Path) -> IndexInfo | None:
    """Info of an index that `build_index` built, None for any other. Raises ConfigError if there is no index."""
    if not any(folder.glob("segments_*")):
        raise ConfigError(f"{folder} is not a Lucene index; choose another, or delete it and set a corpus to index")
    info = folder / _INFO_FILE
    return IndexInfo(**json.loads(info.read_text(encoding="utf-8"))) if info.is_file() else None


def locate_index(index: str) -> Path:
    """Folder of an index on this node. A prebuilt index is downloaded into pyserini's cache, once per node.

    Call `start_jvm` first: importing pyserini's list of prebuilt indexes starts a JVM with default options.

    Raises:
        ConfigError: The name is neither a folder nor a prebuilt index.
    """
    folder = Path(index).expanduser()
    if folder.is_dir():
        read_info(folder)
        return folder
    from pyserini.prebuilt_index_info import TF_INDEX_INFO
    from pyserini.util import download_prebuilt_index, get_cache_home

    if index not in TF_INDEX_INFO:
        nearest = difflib.get_close_matches(index, TF_INDEX_INFO, n=1)
        hint = f"; did you mean pyserini's {nearest[0]!r}?" if nearest else ""
        raise ConfigError(f"no folder {index} on this node, and pyserini has no prebuilt index of that name{hint}")
    cache = Path(get_cache_home())
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{index}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several searchers on a node must not download into the same file
        return Path(download_prebuilt_index(index, verbose=False))


def _has_text(row: dict[str, str | None]) -> bool:
    return bool((row["text"] or "").strip() or (row["title"] or "").strip())


def _raw(row: dict[str, str | None]) -> str:
    doc_id, title, text = row["doc_id"], row["title"], row["text"] or ""
    if title:
        return json.dumps({"id": doc_id, "title": title, "contents": f"{title}\n{text}"}, ensure_ascii=False)
    return json.dumps({"id": doc_id, "contents": text}, ensure_ascii=False)


def _check_unique(read: Callable[[], Iterable[pa.Table]], hashes: "array[int]", source: str) -> None:
    """Raise InputError for a duplicate doc_id. Memory: 8 bytes per document. Reads again if hashes are equal."""
    values, counts = np.unique(np.frombuffer(hashes, dtype=np.int64), return_counts=True)
    repeated = set(values[counts > 1].tolist())
    seen: set[str] = set()
    for table in read() if repeated else ():
        for row in table.to_pylist():
            doc_id = row["doc_id"]
            if hash(doc_id) not in repeated or not _has_text(row):
                continue
            if doc_id in seen:
                raise InputError(f"{source}: doc_id {doc_id!r} occurs twice; give every document a unique id")
            seen.add(doc_id)
