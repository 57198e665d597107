"""The folder of a dataset's qrels and converted files, and the config keys that a dataset gives. Reads no file."""

import hashlib
import json
from typing import Any

from corpus_reranker.retrieval.settings import DatasetConfig


def dataset_folder(dataset: DatasetConfig, candidates: str) -> str:
    """URL of the folder with the qrels and the converted files of a dataset, in a folder of candidates."""
    settings = json.dumps(dataset.model_dump(mode="json"), sort_keys=True)
    return f"{candidates.rstrip('/')}/_dataset/{dataset.layout}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def qrels_file(dataset: DatasetConfig, candidates: str) -> str:
    """URL of the qrels of a dataset, in BEIR's form, in a folder of candidates."""
    return f"{dataset_folder(dataset, candidates)}/qrels.tsv"


def keys_of_dataset(dataset: DatasetConfig, candidates: str) -> dict[str, dict[str, Any]]:
    """Config keys by section that a dataset gives, without reading it. The path of a file is the dataset's own path."""
    path = {"path": dataset.path}
    return {
        "retrieve": {"queries": path},
        "assemble": {"queries": path, "corpus": path, "run": path},
        "evaluate": {"qrels": qrels_file(dataset, candidates)},
    }
