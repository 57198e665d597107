"""An input format from a module outside the package."""

import json
import textwrap
from pathlib import Path

import pytest

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.parquet_files import read_query_ids
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.staging import stage
from helpers.outputs import input_row

JSONL_SOURCE = '''
    """JSON Lines, one query per line."""

    import hashlib
    import json
    from pathlib import Path

    import pyarrow as pa

    from corpus_reranker.errors import InputError
    from corpus_reranker.io.schemas import NESTED_INPUT
    from corpus_reranker.io.sources.base import Source


    class JsonLines(Source):
        form = "jsonl"

        def __init__(self, settings, storage):
            self.path = Path(settings.path)
            self.encoding = settings.options.get("encoding", "utf-8")
            if not self.path.exists():
                raise InputError(f"input.path: there is no file {self.path}")

        def describe(self):
            return f"JSON Lines, {self.path.stat().st_size} bytes"

        def fingerprint_fields(self):
            return {"digest": hashlib.sha256(self.path.read_bytes()).hexdigest()}

        def tables(self):
            with self.path.open(encoding=self.encoding) as lines:
                for line in lines:
                    yield pa.Table.from_pylist([json.loads(line)], NESTED_INPUT)
'''


@pytest.fixture
def jsonl_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name by which a config refers to the source below; its module is in a folder outside the package."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "jsonl_source.py").write_text(textwrap.dedent(JSONL_SOURCE))
    monkeypatch.syspath_prepend(str(folder))
    return "jsonl_source:JsonLines"


def write_lines(path: Path, *query_ids: str, encoding: str = "utf-8") -> InputConfig:
    rows = [input_row(query_id, num_candidates=3) for query_id in query_ids]
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding=encoding)
    return InputConfig(path=str(path), options={"encoding": encoding})


def test_queries_of_an_outside_source_are_staged_as_nested_parquet(tmp_path: Path, jsonl_format: str) -> None:
    settings = write_lines(tmp_path / "in.jsonl", "q1", "q2", "ü3", encoding="latin-1")
    settings = settings.model_copy(update={"format": jsonl_format})
    storage, staged = StorageConfig(), str(tmp_path / "staged")
    with IsolatedProcess() as isolated:
        source: Source = isolated.run(open_source, settings, storage)
        files = isolated.run(stage, source, staged, settings, storage)
        assert isolated.run(read_query_ids, files).to_pylist() == ["q1", "q2", "ü3"]
    assert source.nested_files is None
    assert source.candidate_counts() == {3: 3}
    assert read_query_ids(stage(source, staged, settings, storage, limit=2)).to_pylist() == ["q1", "q2"]


def test_errors_of_an_outside_source_are_input_errors(tmp_path: Path, jsonl_format: str) -> None:
    with pytest.raises(InputError, match="there is no file"):
        open_source(InputConfig(path=str(tmp_path / "nothing"), format=jsonl_format), StorageConfig())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("parket", r"input.format: unknown input format 'parket'; did you mean 'parquet'\?"),
        ("no_such_module:Source", "input.format: cannot load input format 'no_such_module:Source'"),
    ],
)
def test_an_unknown_format_is_a_config_error(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(InputConfig(path="x", format=name), StorageConfig())
