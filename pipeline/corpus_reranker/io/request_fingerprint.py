"""The request fingerprint of a query: a digest of the candidates' ids and of all that prompts can show of its row.

It is the first 32 hex digits of the SHA-256 of these bytes. Lengths and counts are little-endian integers of 8 bytes.

1. The length of the query in UTF-8, and the query.
2. The number of candidates, duplicates included.
3. For `doc_id`, then `title`, then `text`: the length of each candidate's value in UTF-8, in the order of the list,
   then all values. Null counts as empty.

A prompt template that shows columns or scores adds:

4. For each column that it shows, in alphabetical order of the names: the length of its value as text in UTF-8, and the
   value. Null counts as empty.
5. If it shows scores, each candidate's score as a little-endian double. Null counts as NaN.

Otherwise, scores are not part of the fingerprint: no prompt shows them, and the order of the list is the ranking.
"""

import hashlib
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.io.schemas import CANDIDATES, PROBLEM
from corpus_reranker.io.sources.arrow_types import struct_field
from corpus_reranker.types import NOTHING_SHOWN, ShownInput

_FIELDS = ("doc_id", "title", "text")


def request_fingerprints(table: pa.Table, shown: ShownInput = NOTHING_SHOWN) -> pa.Array:
    """The fingerprint of each row, null for a row that cannot be reranked.

    Args:
        table: Rows that `check_batch` has checked, with its column `_problem`.
        shown: What prompts show of a row beyond its query, titles and texts.
    """
    readable = pc.is_null(table[PROBLEM]).combine_chunks()
    rows = table.filter(readable)
    columns = [rows[name] for name in ("query", *shown.columns)]
    fingerprints = iter(_fingerprints(columns, rows[CANDIDATES], shown.scores) if rows.num_rows else ())
    return pa.array([next(fingerprints) if each else None for each in readable.to_pylist()], pa.string())


def _fingerprints(columns: list[pa.ChunkedArray], candidates: pa.ChunkedArray, with_scores: bool) -> list[str]:
    """The digests of rows, from their queries and other columns, and their candidates."""
    (query_offsets, query_bytes), *others = map(_text_buffers, columns)
    counts = pc.list_value_length(candidates).to_numpy()
    bounds = np.concatenate([[0], np.cumsum(counts)])
    structs = pc.list_flatten(candidates).combine_chunks()
    fields = [_text_buffers(struct_field(structs, name)) for name in _FIELDS]
    scores = _scores(structs) if with_scores else np.empty(0, "<f8")
    digests = []
    for row, (start, end) in enumerate(pairwise(bounds.tolist())):
        query = query_bytes[query_offsets[row] : query_offsets[row + 1]]
        digest = hashlib.sha256(len(query).to_bytes(8, "little"))
        digest.update(query)
        digest.update((end - start).to_bytes(8, "little"))
        for offsets, values in fields:
            digest.update(np.diff(offsets[start : end + 1]).astype("<i8").tobytes())
            digest.update(values[offsets[start] : offsets[end]])
        for offsets, values in others:
            value = values[offsets[row] : offsets[row + 1]]
            digest.update(len(value).to_bytes(8, "little"))
            digest.update(value)
        digest.update(scores[start:end].tobytes())
        digests.append(digest.hexdigest()[:32])
    return digests


def _scores(structs: pa.StructArray) -> npt.NDArray[np.float64]:
    scores = struct_field(structs, "score").cast(pa.float64())
    return np.asarray(pc.fill_null(scores, np.nan).to_numpy(zero_copy_only=False), "<f8")


def _text_buffers(texts: pa.Array | pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], memoryview]:
    """Offsets and UTF-8 bytes of texts, without a copy. A null counts as an empty text."""
    filled = pc.fill_null(texts.cast(pa.large_string()), "")
    array = filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
    _, offsets, values = array.buffers()
    numbers = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    return numbers, memoryview(values or b"")
