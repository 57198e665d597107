"""Catalogs of Iceberg tables."""

from collections.abc import Mapping
from typing import Any

from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.table_storage import iceberg_properties
from corpus_reranker.plugins import import_extra


def load_iceberg_catalog(name: str | None, properties: Mapping[str, Any], storage: StorageConfig) -> Any:
    """Load the catalog `name`; None: pyiceberg's default.

    Its properties come from `storage`, from pyiceberg's own configuration (`.pyiceberg.yaml`, `PYICEBERG_CATALOG__...`)
    and from `properties`. Later ones replace earlier ones.

    Raises ConfigError if pyiceberg is not installed.
    """
    import_extra("pyiceberg.io.pyarrow", "iceberg")
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    config = Config()
    configured = config.get_catalog_config(name or config.get_default_catalog_name()) or {}
    derived = {key: value for key, value in iceberg_properties(storage).items() if key not in configured}
    return load_catalog(name, **{**derived, **properties})
