"""Tables of Delta, Iceberg, Lance and Hugging Face datasets for tests of sources."""

import json
import struct
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.io.iceberg_catalog import load_iceberg_catalog
from corpus_reranker.io.settings import InputConfig, StorageConfig

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


class TestTable(ABC):
    """A table in a folder.

    Args:
        folder: An empty folder.
    """

    __test__ = False
    format: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    @property
    def path(self) -> str:
        return str(self.folder / "table")

    @property
    def options(self) -> dict[str, Any]:
        return {}

    def settings(self, **changes: Any) -> InputConfig:
        return InputConfig(path=self.path, format=self.format, options=self.options, **changes)

    @abstractmethod
    def append(self, rows: pa.Table) -> str:
        """Commit rows, and return the version."""

    @abstractmethod
    def delete(self, query_id: str) -> str:
        """Commit the deletion of the rows of a query, and return the version."""


class DeltaTestTable(TestTable):
    format = "delta"

    def append(self, rows: pa.Table) -> str:
        from deltalake import write_deltalake

        write_deltalake(self.path, rows, mode="append")
        return self._version()

    def delete(self, query_id: str) -> str:
        from deltalake import DeltaTable

        DeltaTable(self.path).delete(f"query_id = '{query_id}'")
        return self._version()

    def delete_by_vector(self, rows: Sequence[int]) -> str:
        """Commit a deletion vector for rows of the only data file, which deltalake cannot write.

        Source: sections "Deletion Vectors" and "Deletion Vector Format" in PROTOCOL.md of delta-io/delta.
        """
        from pyroaring import BitMap

        log = Path(self.path) / "_delta_log"
        actions = [json.loads(line) for path in sorted(log.glob("*.json")) for line in path.read_text().splitlines()]
        (added,) = [action["add"] for action in actions if "add" in action]
        bitmap = struct.pack("<iqi", 1681511377, 1, 0) + BitMap(rows).serialize()
        vector = {
            "storageType": "i",
            "pathOrInlineDv": _z85(bitmap),
            "sizeInBytes": len(bitmap),
            "cardinality": len(rows),
        }
        features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
        commit: list[dict[str, Any]] = [
            {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
            {"remove": {"path": added["path"], "deletionTimestamp": 1, "dataChange": True}},
            {"add": {**added, "deletionVector": vector}},
        ]
        version = len(list(log.glob("*.json")))
        (log / f"{version:020}.json").write_text("".join(f"{json.dumps(action)}\n" for action in commit))
        return str(version)

    def _version(self) -> str:
        from deltalake import DeltaTable

        return str(DeltaTable(self.path).version())


class LanceTestTable(TestTable):
    format = "lance"

    def append(self, rows: pa.Table) -> str:
        import lance

        return str(
            lance.write_dataset(rows, self.path, mode="append" if Path(self.path).exists() else "create").version
        )

    def delete(self, query_id: str) -> str:
        import lance

        lance.dataset(self.path).delete(f"query_id = '{query_id}'")
        return str(lance.dataset(self.path).version)


class IcebergTestTable(TestTable):
    """A table in a catalog on SQLite."""

    format = "iceberg"

    @property
    def path(self) -> str:
        return "search.candidates"

    @property
    def options(self) -> dict[str, Any]:
        catalog = {"type": "sql", "uri": f"sqlite:///{self.folder}/catalog.db"}
        return {"catalog": "test", **catalog, "warehouse": self.warehouse}

    @property
    def warehouse(self) -> str:
        return f"file://{self.folder}"

    @property
    def table(self) -> Any:
        return self._catalog().load_table(self.path)

    def append(self, rows: pa.Table) -> str:
        catalog = self._catalog()
        catalog.create_namespace_if_not_exists("search")
        catalog.create_table_if_not_exists(self.path, schema=rows.schema).append(rows)
        return self._version()

    def delete(self, query_id: str) -> str:
        self.table.delete(f"query_id = '{query_id}'")
        return self._version()

    def add_delete_file(self, rows: pa.Table, *, equality: bool = False) -> str:
        """Commit a delete file, which pyiceberg cannot write, and return the version.

        Source: sections "Position Delete Files" and "Equality Delete Files" of the Iceberg table specification.

        Args:
            rows: Its rows: `file_path` and `pos`, or the values of deleted rows.
            equality: Whether the rows are values.
        """
        from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestWriterV2
        from pyiceberg.typedef import Record

        table = self.table
        path = self.folder / f"{uuid.uuid4()}-deletes.parquet"
        ids = {"file_path": 2147483546, "pos": 2147483545, "query_id": 1}
        fields = [field.with_metadata({"PARQUET:field_id": str(ids[field.name])}) for field in rows.schema]
        pq.write_table(rows.cast(pa.schema(fields)), path)
        file = DataFile.from_args(
            content=DataFileContent.EQUALITY_DELETES if equality else DataFileContent.POSITION_DELETES,
            file_path=f"file://{path}",
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=rows.num_rows,
            file_size_in_bytes=path.stat().st_size,
            equality_ids=[ids["query_id"]] if equality else None,
        )
        file.spec_id = table.spec().spec_id
        with (
            patch.object(ManifestWriterV2, "content", lambda _: ManifestContent.DELETES),
            patch.object(ManifestWriterV2, "_meta", property(lambda writer: _delete_manifest_metadata(writer))),
            table.transaction() as transaction,
            transaction.update_snapshot().fast_append() as append,
        ):
            append.append_data_file(file)
        return self._version()

    def data_file(self) -> str:
        """The path of the only data file."""
        (task,) = self.table.scan().plan_files()
        return str(task.file.file_path)

    def _catalog(self) -> Any:
        from pyiceberg.catalog import load_catalog

        options = self.options
        return load_catalog(options.pop("catalog"), **options)

    def _version(self) -> str:
        return str(self.table.current_snapshot().snapshot_id)


class IcebergTestTableOnS3(IcebergTestTable):
    """A table in a catalog on SQLite, with its files in a folder on S3.

    Args:
        folder: An empty local folder, for the catalog.
        warehouse: URL of the folder of the files.
        storage: How to reach S3.
    """

    def __init__(self, folder: Path, warehouse: str, storage: StorageConfig) -> None:
        super().__init__(folder)
        self._warehouse, self._storage = warehouse, storage

    @property
    def warehouse(self) -> str:
        return self._warehouse

    def _catalog(self) -> Any:
        options = self.options
        return load_iceberg_catalog(options.pop("catalog"), options, self._storage)


def _delete_manifest_metadata(writer: Any) -> dict[str, str]:
    from pyiceberg.manifest import ManifestWriter

    return {**ManifestWriter._meta.fget(writer), "content": "deletes"}


def _z85(data: bytes) -> str:
    """Base 85 of ZeroMQ RFC 32; zero bytes are appended to a multiple of 4."""
    data += bytes(-len(data) % 4)
    words = [int.from_bytes(data[start : start + 4], "big") for start in range(0, len(data), 4)]
    return "".join(_Z85[word // 85**power % 85] for word in words for power in (4, 3, 2, 1, 0))


TABLES: dict[str, type[TestTable]] = {
    table.format: table for table in (DeltaTestTable, IcebergTestTable, LanceTestTable)
}
