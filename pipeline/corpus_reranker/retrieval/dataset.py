"""Resolves a dataset in the layout of its publisher into settings of queries, corpus, run and qrels."""

from typing import Any

from corpus_reranker.errors import InputError
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.trec import qrels_lines
from corpus_reranker.retrieval.dataset_folder import dataset_folder, qrels_file
from corpus_reranker.retrieval.json_lines import whole_characters
from corpus_reranker.retrieval.layouts.base import Dataset
from corpus_reranker.retrieval.layouts.registry import layout_function
from corpus_reranker.retrieval.settings import DatasetConfig

_HUB = "hf://"


def resolve_dataset(
    dataset: DatasetConfig, storage: StorageConfig, candidates: str, run: str | None = None
) -> dict[str, dict[str, Any]]:
    """The settings `queries` and `corpus`, and `run` if the dataset has one or `run` is given.

    Writes the qrels, and files that must be converted, into `dataset_folder`.

    Args:
        dataset: Layout, path and split.
        storage: How to reach dataset and candidates.
        candidates: URL of the folder for the candidates.
        run: URL of the run whose documents are needed.

    Raises:
        ConfigError: A package or a setting is missing.
        InputError: The dataset is not of this layout.
    """
    folder = dataset_folder(dataset, candidates)
    local = dataset.model_copy(update={"path": _downloaded(dataset.path)})
    collection = layout_function(dataset.layout)(Dataset(local, storage, folder, run))
    queries = dict(collection.queries)
    if collection.judgments is not None:
        queries["qrels"] = qrels_file(dataset, candidates)
        with atomic_output(*resolve(queries["qrels"], storage)) as stream:
            for line in qrels_lines(collection.judgments):
                stream.write(f"{whole_characters(line, f'the qrels of {dataset.path}')}\n".encode())
    settings = {"queries": queries, "corpus": dict(collection.corpus)}
    found = run or collection.run
    return settings if found is None else {**settings, "run": {"path": found}}


def _downloaded(path: str) -> str:
    """`path`, or the local folder of a dataset on the Hugging Face Hub, which is downloaded once."""
    if not path.startswith(_HUB):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = path.removeprefix(_HUB).removeprefix("datasets/")
    try:
        return str(snapshot_download(name, repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot download the dataset {name}: {first}; without a network, copy its files to a folder and set"
            " dataset.path to it"
        ) from error
