"""Options of a dataset, and the settings of `assemble` and `retrieve` that come from it."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeAlias

import typer

from corpus_reranker.cli.options import JobOptions
from corpus_reranker.retrieval.dataset import resolve_dataset
from corpus_reranker.retrieval.dataset_folder import qrels_file
from corpus_reranker.retrieval.layouts.registry import LAYOUTS
from corpus_reranker.retrieval.settings import DatasetConfig

Layout: TypeAlias = Annotated[
    str | None, typer.Option("--from", metavar="|".join(LAYOUTS), help="Layout of the dataset.")
]
Dataset: TypeAlias = Annotated[
    str | None, typer.Option("--dataset", help="Folder or file of the dataset, hf://OWNER/NAME, or an ir_datasets id.")
]
Split: TypeAlias = Annotated[str | None, typer.Option("--split", help="Split of the dataset; default: test.")]
Subset: TypeAlias = Annotated[str | None, typer.Option("--subset", help="Task of BRIGHT, language of mteb.")]


def dataset_keys(layout: str | None, path: str | None, split: str | None, subset: str | None) -> dict[str, str | None]:
    """The options as config keys."""
    return {"dataset.layout": layout, "dataset.path": path, "dataset.split": split, "dataset.subset": subset}


def settings_of_dataset(options: JobOptions, section: str, keys: Collection[str]) -> Mapping[str, Any]:
    """The `keys` of a section that the config's dataset gives; none without a dataset.

    Args:
        options: The config.
        section: `assemble` or `retrieve`.
        keys: Keys of the section that a dataset may give: `queries`, `corpus`, `run`.

    Raises:
        ConfigError: The section `dataset` is incomplete.
        InputError: The dataset cannot be read.
    """
    dataset = options.section_if_given("dataset", DatasetConfig)
    if dataset is None:
        return {}
    given = options.given(section)
    run = given.get("run") or {}
    found = resolve_dataset(dataset, options.storage(), options.candidates(given.get("output")), run.get("path"))
    return {key: value for key, value in found.items() if key in keys}


def default_qrels(options: JobOptions) -> dict[str, str]:
    """The key `qrels` for the dataset of the config, whose qrels are in the folder of the candidates."""
    dataset = options.section_if_given("dataset", DatasetConfig)
    return {} if dataset is None else {"qrels": qrels_file(dataset, options.candidates(None))}
