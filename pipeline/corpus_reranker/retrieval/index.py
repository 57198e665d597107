"""Lucene indexes: one built from a corpus, one given, or one of pyserini's prebuilt ones."""

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

_FACTS_FILE = "reranker-index.json"


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index built here was built from. `empty_documents` had neither text nor title
    and are not in it."""

    corpus: str
    documents: int
    empty_documents: int
    pyserini: str


def passage(raw: str) -> tuple[str, str | None]:
    """Text and title of a stored document: of an index built here, or of the kinds among the prebuilt ones.

    JSON with the text in `text` (BEIR), `contents` (ours, MS MARCO, BRIGHT), `passage` or `segment` (MS MARCO v2);
    anything else is text as it stands. Ours has the title in front of the contents, which is what is searched.
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
    """Build an index of the documents that `read()` yields (tables of retrieval.corpus.DOCUMENTS) at `folder`.

    Title and text are searched as one field (Anserini's `contents`, Porter stemmer) and stored. Documents with
    neither are left out and counted. `folder` appears when the index is whole. Raises InputError for a doc_id that
    comes twice, ConfigError without a Java, OutputError where the folder cannot be written.
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
            raise InputError(f"{source}: Anserini took {documents:,} of {len(hashes):,} documents; see its log above")
        _check_unique(read, hashes, source)
        info = IndexInfo(source, documents, empty, version("pyserini"))
        (unfinished / _FACTS_FILE).write_text(json.dumps(asdict(info), indent=1), encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return info


def read_info(folder: Path) -> IndexInfo | None:
    """Of an index built here, None for any other. Raises ConfigError where the folder is no index at all."""
    if not any(folder.glob("segments_*")):
        raise ConfigError(f"{folder} is not a Lucene index; give another, or delete it and give a corpus to build from")
    info = folder / _FACTS_FILE
    return IndexInfo(**json.loads(info.read_text(encoding="utf-8"))) if info.is_file() else None


def locate_index(index: str) -> Path:
    """Folder of an index on this node; a prebuilt one is downloaded into pyserini's cache once a node.

    Only after `start_jvm`: pyserini's list of prebuilt indexes is Java, and importing it would start any JVM.
    Raises ConfigError for a name that is neither a folder nor prebuilt.
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
        fcntl.flock(lock, fcntl.LOCK_EX)  # the searchers of a node would download it side by side, into one file
        return Path(download_prebuilt_index(index, verbose=False))


def _has_text(row: dict[str, str | None]) -> bool:
    return bool((row["text"] or "").strip() or (row["title"] or "").strip())


def _raw(row: dict[str, str | None]) -> str:
    doc_id, title, text = row["doc_id"], row["title"], row["text"] or ""
    if title:
        return json.dumps({"id": doc_id, "title": title, "contents": f"{title}\n{text}"}, ensure_ascii=False)
    return json.dumps({"id": doc_id, "contents": text}, ensure_ascii=False)


def _check_unique(read: Callable[[], Iterable[pa.Table]], hashes: "array[int]", source: str) -> None:
    """Eight bytes a document; only where two hashes are equal the corpus is read again, to see whose they are."""
    values, counts = np.unique(np.frombuffer(hashes, dtype=np.int64), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    seen: set[str] = set()
    for table in read() if suspects else ():
        for row in table.to_pylist():
            doc_id = row["doc_id"]
            if hash(doc_id) not in suspects or not _has_text(row):
                continue
            if doc_id in seen:
                raise InputError(f"{source}: doc_id {doc_id!r} comes twice; every document needs an id of its own")
            seen.add(doc_id)
