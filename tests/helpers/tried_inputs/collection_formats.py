"""Queries, corpora, runs and judgments of collections, as assemble, retrieve and evaluate read them."""

from helpers.tried_inputs.base import TriedInput, lines, text

BEIR = lines({"_id": "7", "text": "what?", "metadata": {}})

COLLECTION_FORMATS = (
    TriedInput(
        "BEIR: `queries.jsonl`",
        {"queries.jsonl": text(BEIR)},
        "refused: queries.jsonl has no column 'query_id' but '_id', 'text', 'metadata'",
        "read as '7': what?",
        kind="queries",
    ),
    TriedInput(
        "BEIR: `corpus.jsonl`, `.gz`",
        {"corpus.jsonl.gz": text(lines({"_id": "d1", "title": "", "text": "one", "metadata": {}}))},
        "refused: corpus.jsonl.gz, byte 0 has no 'doc_id' but '_id', 'title', 'text', 'metadata'; set …",
        "read as 'd1': one",
        kind="corpus",
    ),
    TriedInput(
        "BEIR: qrels with a header",
        {"test.tsv": text("query-id\tcorpus-id\tscore\n7\td1\t1\n")},
        "refused: test.tsv, line 1: want `query_id 0 doc_id relevance`, got 'query-id\\tcorpus-id\\tscore'",
        "read as '7': d1",
        kind="qrels",
    ),
    TriedInput(
        "MS MARCO: `queries.dev.tsv`",
        {"queries.dev.tsv": text("7\twhat?\n8\twho?\n")},
        "read as '7': what?; '8': who?",
        "read as '7': what?; '8': who?",
        kind="queries",
    ),
    TriedInput(
        "MS MARCO: `collection.tsv`",
        {"collection.tsv": text("d1\tone\nd2\ttwo\n")},
        "refused: folder FOLDER holds no .parquet or .jsonl or .json file",
        "read as 'd1': one; 'd2': two",
        kind="corpus",
    ),
    TriedInput(
        "MS MARCO: a run of three columns",
        {"run.tsv": text("7\td2\t2\n7\td1\t1\n")},
        "refused: run.tsv, line 1: want `query_id Q0 doc_id rank score tag`, got '7\\td2\\t2'",
        "read as '7': d1 d2",
        kind="run",
    ),
    TriedInput(
        "MS MARCO: `top1000.dev`",
        {"top1000.dev": text("7\td1\twhat?\tone\n7\td2\twhat?\ttwo\n")},
        "refused: top1000.dev, line 1: want `query_id Q0 doc_id rank score tag`, got '7\\td1\\twhat?\\tone'",
        "read as '7': d1 d2",
        kind="run",
    ),
    TriedInput(
        "a TREC run, `.gz`",
        {"run.txt.gz": text("7 Q0 d1 1 2.0 bm25\n7 Q0 d2 2 1.0 bm25\n")},
        "read as '7': d1 d2",
        "read as '7': d1 d2",
        kind="run",
    ),
    TriedInput(
        "a TREC run with a byte-order mark, CRLF",
        {"run.txt": text("7 Q0 d1 1 2.0 bm25\r\n7 Q0 d2 2 1.0 bm25\r\n", "utf-8-sig")},
        "read as '\\ufeff7': d1; '7': d2",
        "read as '7': d1 d2",
        kind="run",
    ),
    TriedInput(
        "qrels with a byte-order mark",
        {"qrels.txt": text("7 0 d1 1\n7 0 d2 0\n", "utf-8-sig")},
        "read as '\\ufeff7': d1; '7': d2",
        "read as '7': d1 d2",
        kind="qrels",
    ),
    TriedInput(
        "queries with a byte-order mark, CRLF",
        {"queries.tsv": text("7\twhat?\r\n", "utf-8-sig")},
        "read as '\\ufeff7': what?",
        "read as '7': what?",
        kind="queries",
    ),
    TriedInput(
        "queries in UTF-16",
        {"queries.tsv": text("7\twhat?\n", "utf-16")},
        "refused: queries.tsv is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "refused: queries.tsv is not UTF-8: … save it as UTF-8",
        kind="queries",
    ),
    TriedInput(
        "queries with a header line",
        {"queries.tsv": text("query_id\tquery\n7\twhat?\n")},
        "read as 'query_id': query; '7': what?",
        "read as '7': what?",
        kind="queries",
    ),
    TriedInput(
        "a third field in a TSV of queries",
        {"queries.tsv": text("7\twhat?\tnews\n")},
        "read as '7': what? news",
        "refused: queries.tsv, line 1: expected `query_id<TAB>query`, got 3 fields: '7\\twhat?\\tnews'",
        kind="queries",
    ),
    TriedInput(
        "queries with other column names",
        {"queries.jsonl": text(lines({"topic": "7", "question": "what?"}))},
        "refused: queries.jsonl has no column 'query_id' but 'topic', 'question'",
        "refused: queries.jsonl has no column 'query_id'; it has … set --assemble.queries.id_column=topic",
        kind="queries",
    ),
    TriedInput(
        "a corpus that is not JSON",
        {"corpus.jsonl": text("d1 one\n")},
        "refused: corpus.jsonl, byte 0: not JSON: Expecting value: line 1 column 1 (char 0); a JSONL file …",
        "refused: corpus.jsonl, byte 0: not JSON: Expecting value: … a JSONL file holds one object per line",
        kind="corpus",
    ),
    TriedInput(
        "a document judged 0 and 1",
        {"qrels.txt": text("7 0 d1 1\n7 0 d1 0\n")},
        "refused: qrels.txt: query '7', document 'd1' is judged 1 and 0; keep one",
        "refused: qrels.txt: query '7', document 'd1' is judged 1 and 0; keep one",
        kind="qrels",
    ),
)
