"""Outputs, and the tables to which tests publish them, on local disk or on an S3 server."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import yaml
from pyarrow.fs import LocalFileSystem

from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.iceberg_catalog import load_iceberg_catalog
from corpus_reranker.io.table_storage import object_store_location
from corpus_reranker.publish.publisher import Published, publish
from corpus_reranker.publish.settings import PublishConfig
from helpers.locations import Location
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

LOCAL = LocalFileSystem()
LIBRARIES = {"delta": "deltalake", "iceberg": "pyiceberg.io.pyarrow", "lance": "lance", "hugging_face": "yaml"}


def ids_of(run_id: str, queries: int = 6) -> list[str]:
    """The sorted query ids of an output."""
    return sorted(f"{run_id}-{number}" for number in range(queries))


@dataclass(frozen=True)
class PublishedTable:
    """A table of one kind at a location, and the outputs for it in a local folder."""

    kind: str
    folder: Path
    location: Location

    def settings(self, **options: Any) -> PublishConfig:
        where: dict[str, Any] = {"destination": f"{self.location.url}/table"}
        if self.kind == "iceberg":
            files = self.location.url if "://" in self.location.url else f"file://{self.location.url}"
            catalog = {"type": "sql", "uri": f"sqlite:///{self.folder}/catalog.db", "warehouse": f"{files}/warehouse"}
            where = {"destination": "reranked.daily", "options": catalog}
        return PublishConfig.model_validate({"to": self.kind, **where, **options})

    def write_output(self, run_id: str, queries: int = 6) -> Path:
        """An output of three data files, the queries `RUN-0`, `RUN-1`, ..."""
        rows = [output_row(f"{run_id}-{number}", [1, 0], query="why?") for number in range(queries)]
        third = queries // 3
        schema = SCHEMA.with_metadata({"reranker.run_id": run_id})
        parts = [rows[:third], rows[third : 2 * third], rows[2 * third :]]
        return write_data_files(self.folder / run_id, parts, schema)

    def publish(self, run_id: str, **options: Any) -> Published:
        return publish((LOCAL, str(self.folder / run_id)), self.settings(**options), self.location.storage)

    def rows(self) -> pa.Table:
        """What a reader sees; without columns if there is no table."""
        return _READERS[self.kind](self)

    def query_ids(self) -> list[str]:
        table = self.rows()
        return sorted(table["query_id"].to_pylist()) if table.num_columns else []


def _read_delta(table: PublishedTable) -> pa.Table:
    import deltalake

    url, options = object_store_location(table.settings().destination, table.location.storage)
    try:
        return deltalake.DeltaTable(url, storage_options=options).to_pyarrow_table()
    except deltalake.exceptions.TableNotFoundError:
        return pa.table({})


def _read_iceberg(table: PublishedTable) -> pa.Table:
    config = table.settings()
    catalog = load_iceberg_catalog(config.catalog, config.options, table.location.storage)
    if not catalog.table_exists(config.destination):
        return pa.table({})
    return catalog.load_table(config.destination).scan().to_arrow()


def _read_lance(table: PublishedTable) -> pa.Table:
    import lance

    url, options = object_store_location(table.settings().destination, table.location.storage)
    try:
        return lance.dataset(url, storage_options=options).to_table()
    except ValueError:
        return pa.table({})


def _read_hugging_face(table: PublishedTable) -> pa.Table:
    """The files that the card names, as `datasets` reads them."""
    filesystem, folder = resolve(table.settings().destination, table.location.storage)
    if not filesystem.get_file_info(f"{folder}/README.md").is_file:
        return pa.table({})
    with filesystem.open_input_stream(f"{folder}/README.md") as stream:
        (named,) = next(yaml.safe_load_all(stream.read()))["configs"]
    folders = [f"{folder}/{pattern.removesuffix('/*.parquet')}" for pattern in named["data_files"][0]["path"]]
    paths = [info.path for each in folders for info in list_files(filesystem, each)]
    return pads.dataset(paths, format="parquet", filesystem=filesystem).to_table()


_READERS: dict[str, Callable[[PublishedTable], pa.Table]] = {
    "delta": _read_delta,
    "iceberg": _read_iceberg,
    "lance": _read_lance,
    "hugging_face": _read_hugging_face,
}
