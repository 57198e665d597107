"""An output format from a module outside the package."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import OutputConfig, StorageConfig
from corpus_reranker.io.sinks.registry import open_sink
from helpers.outputs import SCHEMA, result_row

TREC_SINK = '''
    """The Parquet output, plus a TREC run that is written when the output is committed."""

    import pyarrow.parquet as pq

    from corpus_reranker.io.sinks.parquet import ParquetSink


    class TrecSink(ParquetSink):
        def write(self, dataset, schema, **options):
            super().write(dataset, schema, compression="gzip", **options)

        def finish(self, resume_point, schema, info=None):
            layout, tag = self.layout, self._settings.options["tag"]
            with layout.filesystem.open_output_stream(layout.path("_run.trec")) as stream:
                for path in resume_point.files:
                    for row in pq.read_table(path, filesystem=layout.filesystem).to_pylist():
                        for each in row["ranking"]:
                            line = f"{row['query_id']} Q0 {each['doc_id']} {each['rank']} {each['score']} {tag}"
                            stream.write(f"{line}\\n".encode())
            return super().finish(resume_point, schema, info)
'''


class FakeDataset:
    """Writes its rows as `ray.data.Dataset.write_parquet` does."""

    def __init__(self, *query_ids: str) -> None:
        self._table = pa.Table.from_pylist([result_row(query_id) for query_id in query_ids], SCHEMA)

    def write_parquet(self, folder: str, *, filesystem: Any, schema: pa.Schema, compression: str) -> None:
        filesystem.create_dir(folder)
        path = f"{folder}/part-{Path(folder).parent.name}-0.parquet"
        pq.write_table(self._table.cast(schema), path, filesystem=filesystem, compression=compression)


def test_an_outside_sink_writes_and_commits_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "trec_sink.py").write_text(textwrap.dedent(TREC_SINK))
    monkeypatch.syspath_prepend(str(folder))
    output = tmp_path / "out"
    settings = OutputConfig(path=str(output), format="trec_sink:TrecSink", options={"tag": "mine"})
    sink = open_sink(settings, StorageConfig())
    query_ids = pa.chunked_array([["q1", "q2"]])
    with sink.lease():
        sink.begin({"model": "m"}, 2, config_yaml="")
        assert sink.prepare(query_ids).remaining == 2
        sink.write(FakeDataset("q1", "q2"), SCHEMA)
        manifest = sink.finish(sink.prepare(query_ids), SCHEMA)
    assert manifest == json.loads((output / "_manifest.json").read_bytes())
    assert manifest["queries"] == 2
    lines = (output / "_run.trec").read_text().splitlines()
    assert len(lines) == 6
    assert all(line.endswith(" mine") for line in lines)
    assert pq.ParquetFile(next(output.glob("part-*.parquet"))).metadata.row_group(0).column(0).compression == "GZIP"
    assert sink.check({"model": "m"}) is True


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("parket", r"output.format: unknown output format 'parket'; did you mean 'parquet'\?"),
        ("no_such_module:Sink", "output.format: cannot load output format 'no_such_module:Sink'"),
    ],
)
def test_an_unknown_format_is_a_config_error(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_sink(OutputConfig(path="x", format=name), StorageConfig())
